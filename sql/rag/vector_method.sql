-- requires: 015_hybrid_search
-- Without a SET clause, so that it is inlined.
CREATE OR REPLACE FUNCTION rag.vector_method(p_tenant uuid, p_filter jsonb, p_exact_below integer)
RETURNS TABLE (method text)
LANGUAGE sql STABLE ROWS 1
AS $$
  SELECT CASE WHEN coalesce((p_filter ->> 'chunks')::bigint, sum(s.chunks), 0) < p_exact_below THEN 'exact' ELSE 'hnsw' END
  FROM rag.statistics AS s
  WHERE s.tenant_id = p_tenant
$$;

COMMENT ON FUNCTION rag.vector_method(uuid, jsonb, integer) IS
  'How the vector leg searches: exact where there are fewer vectors to compare with than that, or else hnsw. Internal: it trusts p_tenant.';
