-- requires: 015_hybrid_search
-- Without a SET clause, so that it is inlined and EXPLAIN shows its plan. The distances are made before they are sorted by: no plan can
-- use the index of the vectors.
CREATE OR REPLACE FUNCTION rag.nearest_exact(p_tenant uuid, p_embedding halfvec, p_filter jsonb, p_limit integer)
RETURNS TABLE (chunk_id uuid, distance double precision)
LANGUAGE sql STABLE
AS $$
  WITH measured AS MATERIALIZED (
    SELECT e.chunk_id, e.embedding OPERATOR(public.<=>) p_embedding AS distance
    FROM rag.embeddings AS e
    WHERE e.tenant_id = p_tenant
      AND (p_filter IS NULL
        OR (SELECT rag.passes(d, p_filter) FROM rag.documents AS d WHERE d.tenant_id = e.tenant_id AND d.id = e.document_id))
  )
  SELECT m.chunk_id, m.distance FROM measured AS m ORDER BY m.distance, m.chunk_id LIMIT p_limit
$$;

COMMENT ON FUNCTION rag.nearest_exact(uuid, halfvec, jsonb, integer) IS
  'Compares with every vector of the tenant that passes, through the index embeddings_document. Internal: it trusts p_tenant.';
