-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.read_document(p_document_id uuid)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT rag.document_state(rag.find_document(p_document_id))
$$;

COMMENT ON FUNCTION rag.read_document(uuid) IS 'rag.document_state of a document that the current user may read; raises not_found.';
GRANT EXECUTE ON FUNCTION rag.read_document(uuid) TO app;
