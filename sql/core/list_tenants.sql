-- requires: 000_core
CREATE OR REPLACE FUNCTION core.list_tenants(p_after text DEFAULT '', p_limit integer DEFAULT 100)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM core.require_operation('tenants.read');
  RETURN (
    SELECT coalesce(jsonb_agg(core.tenant_document(t) ORDER BY t.slug), '[]')
    FROM (SELECT * FROM core.tenants AS t WHERE t.slug > p_after ORDER BY t.slug LIMIT p_limit) AS t);
END
$$;

COMMENT ON FUNCTION core.list_tenants(text, integer) IS 'All tenants by slug, those after p_after: [core.tenant_document]. Across tenants: for platform_admin.';
GRANT EXECUTE ON FUNCTION core.list_tenants(text, integer) TO app;
