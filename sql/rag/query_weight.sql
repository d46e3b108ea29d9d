-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION rag.query_weight(p_words rag.query_word[])
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT sum(w.weight) FROM (SELECT DISTINCT q.word, q.weight FROM unnest(p_words) AS q) AS w
$$;

COMMENT ON FUNCTION rag.query_weight(rag.query_word[]) IS 'What all words of a query weigh together, also those that no chunk has. Internal.';
