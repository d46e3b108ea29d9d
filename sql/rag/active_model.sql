-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.active_model()
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT rag.model_document(m) FROM rag.embedding_models AS m WHERE m.status = 'active'
$$;

COMMENT ON FUNCTION rag.active_model() IS 'The model by which questions are embedded, because it made the stored vectors: rag.model_document.';
GRANT EXECUTE ON FUNCTION rag.active_model() TO app, dba_readonly;
