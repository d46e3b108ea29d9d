-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.active_model()
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object('id', m.id, 'name', m.name, 'width', m.width) FROM rag.embedding_models AS m WHERE m.status = 'active'
$$;

COMMENT ON FUNCTION rag.active_model() IS 'The model by which questions are embedded, because it made the stored vectors: {id, name, width}.';
GRANT EXECUTE ON FUNCTION rag.active_model() TO app, dba_readonly;
