-- requires: 015_hybrid_search
-- Each word that is ranked by costs with each candidate.
CREATE OR REPLACE FUNCTION rag.sought_words(p_words rag.query_word[])
RETURNS SETOF rag.query_word
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 32
AS $$
  SELECT (q).* FROM unnest(p_words) AS q WHERE q.chunks > 0 ORDER BY q.weight DESC, q.word, q.lexeme LIMIT 32
$$;

COMMENT ON FUNCTION rag.sought_words(rag.query_word[]) IS
  'The words that the text leg looks for: of a long query the 32 that weigh most, rare ones and those that it repeats. Internal.';
