-- requires: 015_hybrid_search
-- A short question's words are all to be expected of an answer. Those of a long one are not: the more words it has, the smaller would be
-- the share that the best passage has, and the say of the text legs. A passage that comes to what four words weigh is no accident.
CREATE OR REPLACE FUNCTION rag.query_weight(p_words rag.query_word[])
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT sum(w.weight)
  FROM (
    SELECT max(q.weight) AS weight FROM unnest(p_words) AS q GROUP BY q.word ORDER BY max(q.weight) DESC LIMIT 4
  ) AS w
$$;

COMMENT ON FUNCTION rag.query_weight(rag.query_word[]) IS
  'What the words of a query weigh together, of many the four heaviest; also those that no chunk has. Internal.';
