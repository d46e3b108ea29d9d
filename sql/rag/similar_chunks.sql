-- requires: 015_hybrid_search
-- Trigrams are for what full text cannot see: misspelt words and parts of names. Only words that no chunk of the tenant has are looked
-- up, so that an ordinary question costs nothing here.
CREATE OR REPLACE FUNCTION rag.similar_chunks(p_tenant uuid, p_words rag.query_word[], p_filter jsonb, p_limit integer)
RETURNS TABLE (chunk_id uuid, rank bigint, score double precision)
LANGUAGE plpgsql STABLE ROWS 40
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_lexemes text[];
  v_chunks bigint[];
  v_weights double precision[];
BEGIN
  IF NOT EXISTS (SELECT FROM unnest(p_words) AS q WHERE NOT q.known) THEN
    RETURN;
  END IF;
  SELECT array_agg(c.lexeme), array_agg(c.chunks), array_agg(c.weight) INTO v_lexemes, v_chunks, v_weights
  FROM rag.corrections(p_tenant, p_words) AS c;
  IF v_lexemes IS NOT NULL THEN
    RETURN QUERY SELECT * FROM rag.rank_chunks(p_tenant, v_lexemes, v_chunks, v_weights, rag.query_weight(p_words), p_filter, p_limit);
  END IF;
END
$$;

COMMENT ON FUNCTION rag.similar_chunks(uuid, rag.query_word[], jsonb, integer) IS
  'The trigram leg of rag.search: chunks with words spelt like those of the query that no chunk of the tenant has, by BM25. Internal: it trusts p_tenant.';
