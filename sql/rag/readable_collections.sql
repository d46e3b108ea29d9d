-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.readable_collections()
RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT rag.open_collections('read') WHERE core.current_tenant() IS NOT NULL
$$;

COMMENT ON FUNCTION rag.readable_collections() IS
  'The collections that the current user may read: those for everybody, the own ones, and those that were granted; for tenant_admin and for event functions all of the tenant.';
GRANT EXECUTE ON FUNCTION rag.readable_collections() TO app;
