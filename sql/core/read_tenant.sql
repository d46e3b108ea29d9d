-- requires: 000_core
CREATE OR REPLACE FUNCTION core.read_tenant()
RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT core.tenant_document(t) FROM core.tenants AS t WHERE t.id = core.require_tenant()
$$;

COMMENT ON FUNCTION core.read_tenant() IS 'The current tenant: core.tenant_document.';
GRANT EXECUTE ON FUNCTION core.read_tenant() TO app;
