-- requires: 015_hybrid_search
-- A question is not a conjunction: any of its words may match, and the ranking rewards many and rare ones.
CREATE OR REPLACE FUNCTION rag.matching_chunks(p_tenant uuid, p_words rag.query_word[], p_filter jsonb, p_limit integer)
RETURNS TABLE (chunk_id uuid, rank bigint, score double precision)
LANGUAGE plpgsql STABLE ROWS 40
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_lexemes text[];
  v_chunks bigint[];
  v_weights double precision[];
BEGIN
  SELECT array_agg(w.lexeme), array_agg(w.chunks), array_agg(w.weight) INTO v_lexemes, v_chunks, v_weights
  FROM rag.sought_words(p_words) AS w;
  IF v_lexemes IS NOT NULL THEN
    RETURN QUERY SELECT * FROM rag.rank_chunks(p_tenant, v_lexemes, v_chunks, v_weights, rag.query_weight(p_words), p_filter, p_limit);
  END IF;
END
$$;

COMMENT ON FUNCTION rag.matching_chunks(uuid, rag.query_word[], jsonb, integer) IS
  'The text leg of rag.search: chunks that share words with the query, by BM25. Internal: it trusts p_tenant.';
