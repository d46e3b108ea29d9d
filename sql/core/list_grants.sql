-- requires: 000_core
CREATE OR REPLACE FUNCTION core.list_grants()
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  PERFORM core.require_operation('roles.read');
  RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object('user_id', g.user_id, 'group', g.group_name, 'roles', g.roles) ORDER BY g.group_name, g.user_id), '[]')
    FROM (
      SELECT r.user_id, r.group_name, array_agg(r.role::text ORDER BY r.role) AS roles
      FROM core.role_grants AS r
      WHERE r.tenant_id = v_tenant
      GROUP BY r.user_id, r.group_name
    ) AS g);
END
$$;

COMMENT ON FUNCTION core.list_grants() IS 'Who of the current tenant was granted which roles here: [{user_id, group, roles}].';
GRANT EXECUTE ON FUNCTION core.list_grants() TO app;
