-- requires: 000_core
-- HNSW filters after its scan: a tenant with few of the rows gets few results, or none. Below about 2,000 rows an exact
-- scan of the tenant's rows is right and quick; above, the index scan goes on until it has enough (pgvector 0.8).
CREATE OR REPLACE FUNCTION rag.nearest_chunks(
  p_tenant uuid, p_embedding halfvec, p_collections uuid[], p_limit integer
)
RETURNS TABLE (chunk_id uuid, rank bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  c_exact_below constant integer := 2000;
BEGIN
  IF (SELECT count(*) FROM (SELECT FROM rag.embeddings AS c WHERE c.tenant_id = p_tenant LIMIT c_exact_below) AS few) < c_exact_below THEN
    RETURN QUERY
    WITH measured AS MATERIALIZED (
      SELECT c.chunk_id AS id, c.embedding <=> p_embedding AS distance
      FROM rag.embeddings AS c
      JOIN rag.documents AS d ON d.tenant_id = c.tenant_id AND d.id = c.document_id
      WHERE c.tenant_id = p_tenant AND (p_collections IS NULL OR d.collection_id = ANY (p_collections))
    )
    SELECT m.id, row_number() OVER (ORDER BY m.distance, m.id)
    FROM measured AS m
    ORDER BY m.distance, m.id
    LIMIT p_limit;
  ELSE
    IF (SELECT string_to_array(e.extversion, '.')::integer[] >= ARRAY[0, 8] FROM pg_extension AS e WHERE e.extname = 'vector') THEN
      PERFORM set_config('hnsw.iterative_scan', 'relaxed_order', true);
    END IF;
    RETURN QUERY
    WITH measured AS MATERIALIZED (
      SELECT c.chunk_id AS id, c.embedding <=> p_embedding AS distance
      FROM rag.embeddings AS c
      JOIN rag.documents AS d ON d.tenant_id = c.tenant_id AND d.id = c.document_id
      WHERE c.tenant_id = p_tenant AND (p_collections IS NULL OR d.collection_id = ANY (p_collections))
      ORDER BY c.embedding <=> p_embedding
      LIMIT p_limit
    )
    SELECT m.id, row_number() OVER (ORDER BY m.distance, m.id) FROM measured AS m;
  END IF;
END
$$;

COMMENT ON FUNCTION rag.nearest_chunks(uuid, halfvec, uuid[], integer) IS
  'The vector leg of rag.search: chunks by cosine distance, exact for small tenants. Internal: it trusts p_tenant.';
