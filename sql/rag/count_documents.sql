-- requires: 008_ingestion_pipeline
-- It runs with the caller's rights.
CREATE OR REPLACE FUNCTION rag.count_documents(p_collection_id uuid DEFAULT NULL, p_prefix text DEFAULT NULL, p_metadata jsonb DEFAULT NULL)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'received', count(*) FILTER (WHERE d.status = 'received'), 'processing', count(*) FILTER (WHERE d.status = 'processing'),
    'indexed', count(*) FILTER (WHERE d.status = 'indexed'), 'failed', count(*) FILTER (WHERE d.status = 'failed'))
  FROM rag.documents AS d
  WHERE d.tenant_id = core.require_tenant()
    AND (p_collection_id IS NULL OR d.collection_id = p_collection_id)
    AND (p_prefix IS NULL OR starts_with(d.name, p_prefix))
    AND (p_metadata IS NULL OR d.metadata @> p_metadata)
$$;

COMMENT ON FUNCTION rag.count_documents(uuid, text, jsonb) IS 'How many documents are how far: {received, processing, indexed, failed}; the arguments as in rag.list_documents.';
GRANT EXECUTE ON FUNCTION rag.count_documents(uuid, text, jsonb) TO app;
