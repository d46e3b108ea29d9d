-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.writable_collections()
RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT rag.open_collections('write') WHERE core.current_tenant() IS NOT NULL
$$;

COMMENT ON FUNCTION rag.writable_collections() IS 'The collections in which the current user may store, retry and delete documents, as rag.readable_collections.';
GRANT EXECUTE ON FUNCTION rag.writable_collections() TO app;
