-- requires: 000_core
-- Trigrams are for what full text cannot see: misspelt words and parts of names. Only words that no chunk of the tenant
-- contains are looked up, so an ordinary question costs nothing here.
CREATE OR REPLACE FUNCTION rag.similar_chunks(
  p_tenant uuid, p_query text, p_collections uuid[], p_limit integer
)
RETURNS TABLE (chunk_id uuid, rank bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  c_chars constant integer := 1000;
  c_words constant integer := 8;
  c_candidates constant integer := 500;
  v_words text[];
BEGIN
  SELECT array_agg(unknown.word) INTO v_words
  FROM (
    SELECT w.word
    FROM (
      SELECT DISTINCT s.word
      FROM regexp_split_to_table(left(lower(p_query), c_chars), '[^[:alnum:]]+') AS s (word)
      WHERE length(s.word) BETWEEN 4 AND 64
    ) AS w
    WHERE to_tsvector('pg_catalog.english', w.word) <> ''
      AND NOT EXISTS (
        SELECT FROM rag.chunks AS c
        WHERE c.tenant_id = p_tenant AND c.live AND c.search_text @@ plainto_tsquery('pg_catalog.english', w.word))
    LIMIT c_words
  ) AS unknown;
  IF v_words IS NULL THEN
    RETURN;
  END IF;
  RETURN QUERY
  WITH candidates AS MATERIALIZED (
    SELECT c.id, word_similarity(w.word, c.content) AS similarity
    FROM unnest(v_words) AS w (word)
    CROSS JOIN LATERAL (
      SELECT k.id, k.content, k.tenant_id, k.document_id
      FROM rag.chunks AS k
      WHERE k.tenant_id = p_tenant AND k.live AND k.content %> w.word
      LIMIT c_candidates
    ) AS c
    JOIN rag.documents AS d ON d.tenant_id = c.tenant_id AND d.id = c.document_id
    WHERE p_collections IS NULL OR d.collection_id = ANY (p_collections)
  ), scored AS (
    SELECT k.id, sum(k.similarity) AS score FROM candidates AS k GROUP BY k.id
  )
  SELECT s.id, row_number() OVER (ORDER BY s.score DESC, s.id)
  FROM scored AS s
  ORDER BY s.score DESC, s.id
  LIMIT p_limit;
END
$$;

COMMENT ON FUNCTION rag.similar_chunks(uuid, text, uuid[], integer) IS
  'The trigram leg of rag.search: chunks with words spelt like those of the query that no chunk contains. Internal: it trusts p_tenant.';
