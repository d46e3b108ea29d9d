-- requires: 000_core
-- A question is not a conjunction: any of its words may match, and the ranking rewards many. Ranking costs microseconds
-- a match, so the candidates are bounded.
CREATE OR REPLACE FUNCTION rag.matching_chunks(
  p_tenant uuid, p_query text, p_collections uuid[], p_limit integer
)
RETURNS TABLE (chunk_id uuid, rank bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  c_words constant integer := 64;
  c_candidates constant integer := 2000;
  v_query tsquery;
BEGIN
  SELECT string_agg(quote_literal(l.lexeme), ' | ')::tsquery INTO v_query
  FROM (
    SELECT w.lexeme FROM unnest(to_tsvector('pg_catalog.english', p_query)) AS w ORDER BY w.positions[1] LIMIT c_words
  ) AS l;
  IF v_query IS NULL THEN
    RETURN;
  END IF;
  RETURN QUERY
  WITH candidates AS MATERIALIZED (
    SELECT c.id, c.search_text
    FROM rag.chunks AS c
    JOIN rag.documents AS d ON d.tenant_id = c.tenant_id AND d.id = c.document_id
    WHERE c.tenant_id = p_tenant AND c.live AND c.search_text @@ v_query
      AND (p_collections IS NULL OR d.collection_id = ANY (p_collections))
    LIMIT c_candidates
  ), ranked AS (
    SELECT k.id, ts_rank_cd(k.search_text, v_query, 1) AS score FROM candidates AS k
  )
  SELECT r.id, row_number() OVER (ORDER BY r.score DESC, r.id)
  FROM ranked AS r
  ORDER BY r.score DESC, r.id
  LIMIT p_limit;
END
$$;

COMMENT ON FUNCTION rag.matching_chunks(uuid, text, uuid[], integer) IS
  'The full-text leg of rag.search: chunks that share words with the query. Internal: it trusts p_tenant.';
