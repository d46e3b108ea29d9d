-- requires: 015_hybrid_search
-- Trigrams are compared with words that have the first or the last half in common with the one that is looked for: whoever mistypes a
-- word has mostly one half right. An index of all trigrams of all words would be several times as large as the vocabulary, and lead to
-- most of it.
CREATE OR REPLACE FUNCTION rag.similar_words(p_tenant uuid, p_word text)
RETURNS TABLE (lexeme text, chunks bigint, similarity real)
LANGUAGE plpgsql STABLE ROWS 3
SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
  c_most constant integer := 2000;
  c_last constant text := chr(1114111);
  v_settings rag.search_settings;
  v_half integer := greatest(3, length(p_word) / 2);
  v_first text COLLATE "C" := left(p_word, v_half);
  v_last text COLLATE "C" := left(reverse(p_word), v_half);
BEGIN
  -- Numbers are right or wrong: another one is another thing.
  IF length(p_word) NOT BETWEEN 4 AND 40 OR p_word !~ '[^0-9]' THEN
    RETURN;
  END IF;
  SELECT * INTO v_settings FROM rag.settings_of(p_tenant);
  RETURN QUERY
  WITH alike AS (
    (SELECT v.lexeme, v.chunks
     FROM rag.vocabulary AS v
     WHERE v.tenant_id = p_tenant AND v.lexeme >= v_first AND v.lexeme < v_first || c_last
     LIMIT c_most)
    UNION
    (SELECT v.lexeme, v.chunks
     FROM rag.vocabulary AS v
     WHERE v.tenant_id = p_tenant AND reverse(v.lexeme) >= v_last AND reverse(v.lexeme) < v_last || c_last AND length(v.lexeme) BETWEEN 4 AND 40
     LIMIT c_most)
  ), measured AS MATERIALIZED (
    SELECT a.lexeme, a.chunks, public.similarity(p_word, a.lexeme) AS similarity
    FROM alike AS a
    WHERE length(a.lexeme) BETWEEN 4 AND 40 AND a.lexeme ~ '[^0-9]'
  )
  SELECT m.lexeme, m.chunks, m.similarity
  FROM measured AS m
  WHERE m.similarity >= v_settings.spelling_similarity
  ORDER BY m.similarity DESC, m.chunks DESC, m.lexeme
  LIMIT v_settings.corrections;
END
$$;

COMMENT ON FUNCTION rag.similar_words(uuid, text) IS
  'Words of the tenant that are spelt like one that it lacks, by trigram similarity, most similar first. Internal: it trusts p_tenant.';
