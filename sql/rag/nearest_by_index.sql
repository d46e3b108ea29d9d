-- requires: 015_hybrid_search
-- Without a SET clause, so that it is inlined and EXPLAIN shows its plan.
CREATE OR REPLACE FUNCTION rag.nearest_by_index(p_tenant uuid, p_embedding halfvec, p_filter jsonb, p_limit integer)
RETURNS TABLE (chunk_id uuid, distance double precision)
LANGUAGE sql STABLE
AS $$
  SELECT e.chunk_id, e.embedding OPERATOR(public.<=>) p_embedding
  FROM rag.embeddings AS e
  WHERE e.tenant_id = p_tenant
    AND (p_filter IS NULL
      OR (SELECT rag.passes(d, p_filter) FROM rag.documents AS d WHERE d.tenant_id = e.tenant_id AND d.id = e.document_id))
  ORDER BY e.embedding OPERATOR(public.<=>) p_embedding
  LIMIT p_limit
$$;

COMMENT ON FUNCTION rag.nearest_by_index(uuid, halfvec, jsonb, integer) IS
  'Vectors near the query through the index embeddings_embedding, nearly in order; maybe fewer than asked for. Internal: it trusts p_tenant.';
