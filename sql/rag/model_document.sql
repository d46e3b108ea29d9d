-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.model_document(p_model rag.embedding_models)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object('id', p_model.id, 'name', p_model.name, 'width', p_model.width)
    -- Before 018_shortened_vectors there is no such column; and the release before it knows no such member.
    || CASE WHEN (to_jsonb(p_model) ->> 'send_dimensions')::boolean THEN '{"send_dimensions": true}' ELSE '{}' END::jsonb
$$;

COMMENT ON FUNCTION rag.model_document(rag.embedding_models) IS
  'An embedding model as the functions know it: {id, name, width}, and send_dimensions: true where its endpoint is to be asked for vectors of that width. Internal.';
GRANT EXECUTE ON FUNCTION rag.model_document(rag.embedding_models) TO app, dba_readonly;
