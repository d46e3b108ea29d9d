-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.document_status(p_document_id uuid DEFAULT NULL, p_collection text DEFAULT NULL)
RETURNS TABLE (
  id uuid, collection text, name text, media_type text, version integer, status text, stage text,
  chunks_total integer, chunks_embedded integer, chunks_failed integer, error_code text, error_detail text,
  created_at timestamptz, updated_at timestamptz
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT d.id, c.name, d.name, d.media_type, d.version, d.status, d.stage, d.chunks_total, d.chunks_embedded, d.chunks_failed,
    d.error_code, d.error_detail, d.created_at, d.updated_at
  FROM rag.documents AS d
  JOIN rag.collections AS c ON c.tenant_id = d.tenant_id AND c.id = d.collection_id
  WHERE d.tenant_id = core.require_tenant()
    AND (p_document_id IS NULL OR d.id = p_document_id)
    AND (p_collection IS NULL OR c.name = p_collection)
  ORDER BY c.name, d.name
  LIMIT 1000
$$;

COMMENT ON FUNCTION rag.document_status(uuid, text) IS 'How far documents of the current tenant have come: one by id, or all of a collection, or all (at most 1000).';
GRANT EXECUTE ON FUNCTION rag.document_status(uuid, text) TO app;
