-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.raise_no_collection(p_name text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM ops.raise_problem('not_found', format('There is no collection named %s.', p_name), jsonb_build_object('collection', p_name));
END
$$;

COMMENT ON FUNCTION rag.raise_no_collection(text) IS 'Raises not_found: the collection is not there, or the caller may not know of it. Internal.';
GRANT EXECUTE ON FUNCTION rag.raise_no_collection(text) TO app;
