-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION rag.read_search_settings()
RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT to_jsonb(o) - 'tenant_id' FROM rag.settings_of(core.require_tenant()) AS o
$$;

COMMENT ON FUNCTION rag.read_search_settings() IS 'How the current tenant is searched: the columns of rag.search_settings, its own where it has some.';
GRANT EXECUTE ON FUNCTION rag.read_search_settings() TO app;
