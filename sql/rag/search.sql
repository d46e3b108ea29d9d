-- requires: 008_ingestion_pipeline
-- SECURITY DEFINER, because @@ and %> are not leakproof: under row-level security the planner would evaluate them after
-- the policy and could not use their indexes. In return the tenant predicate is in every leg, and an unset tenant raises.
--
-- Reciprocal rank fusion: Cormack, Clarke, Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank
-- Learning Methods", SIGIR 2009; k = 60 is theirs.
CREATE OR REPLACE FUNCTION rag.search(
  p_query text, p_embedding halfvec, p_collections text[] DEFAULT NULL, p_limit integer DEFAULT 5
)
RETURNS TABLE (
  chunk_id uuid, document_id uuid, document_name text, heading text, content text,
  score double precision, vector_rank integer, text_rank integer, trigram_rank integer
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  c_k constant integer := 60;
  c_depth constant integer := 40;
  v_tenant uuid := core.require_tenant();
  v_collections uuid[];
  v_missing text;
BEGIN
  PERFORM rag.check_embedding(p_embedding);
  -- What the user may not read is not there. Where nothing is restricted nothing needs to be compared.
  IF p_collections IS NOT NULL THEN
    SELECT array_agg(c.id), min(n.name) FILTER (WHERE c.id IS NULL)
    INTO v_collections, v_missing
    FROM unnest(p_collections) AS n (name)
    LEFT JOIN rag.collections AS c ON c.tenant_id = v_tenant AND c.name = n.name AND c.id = ANY (rag.readable_collections());
    IF v_missing IS NOT NULL THEN
      PERFORM rag.raise_no_collection(v_missing);
    END IF;
  ELSIF EXISTS (SELECT FROM rag.collections AS c WHERE c.tenant_id = v_tenant AND c.visibility = 'restricted') THEN
    v_collections := rag.readable_collections();
  END IF;

  -- The legs are STABLE: they see what this statement sees, and not a version that is published meanwhile.
  RETURN QUERY
  WITH found AS (
    SELECT n.chunk_id, 'vector' AS leg, n.rank
    FROM rag.nearest_chunks(v_tenant, p_embedding, v_collections, c_depth) AS n
    WHERE p_embedding IS NOT NULL
    UNION ALL
    SELECT m.chunk_id, 'text', m.rank FROM rag.matching_chunks(v_tenant, p_query, v_collections, c_depth) AS m
    UNION ALL
    SELECT s.chunk_id, 'trigram', s.rank FROM rag.similar_chunks(v_tenant, p_query, v_collections, c_depth) AS s
  ), fused AS (
    SELECT f.chunk_id,
      sum(1.0 / (c_k + f.rank))::double precision AS score,
      (min(f.rank) FILTER (WHERE f.leg = 'vector'))::integer AS vector_rank,
      (min(f.rank) FILTER (WHERE f.leg = 'text'))::integer AS text_rank,
      (min(f.rank) FILTER (WHERE f.leg = 'trigram'))::integer AS trigram_rank
    FROM found AS f
    GROUP BY f.chunk_id
  )
  SELECT c.id, d.id, d.name, c.heading, c.content, f.score, f.vector_rank, f.text_rank, f.trigram_rank
  FROM fused AS f
  JOIN rag.chunks AS c ON c.tenant_id = v_tenant AND c.id = f.chunk_id AND c.live
  JOIN rag.documents AS d ON d.tenant_id = v_tenant AND d.id = c.document_id
  ORDER BY f.score DESC, c.id
  LIMIT p_limit;
END
$$;

COMMENT ON FUNCTION rag.search(text, halfvec, text[], integer) IS
  'The current tenant''s best passages for a query: vector, full text and trigrams fused by reciprocal rank. Without an embedding it searches text only; collections limit it, by name.';
GRANT EXECUTE ON FUNCTION rag.search(text, halfvec, text[], integer) TO app;
