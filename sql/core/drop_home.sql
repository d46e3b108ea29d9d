-- requires: 016_regions
CREATE OR REPLACE FUNCTION core.drop_home(p_tenant_id uuid)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_platform constant uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
  PERFORM core.require_operation('regions.update');
  IF EXISTS (SELECT FROM core.tenants AS t WHERE t.id = p_tenant_id) THEN
    -- It would be served again from what lies here.
    PERFORM ops.raise_problem('conflict', 'The tenant has a row here: say where it is at home.', jsonb_build_object('tenant_id', p_tenant_id));
  END IF;
  DELETE FROM core.tenant_homes AS h WHERE h.tenant_id = p_tenant_id;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'The directory has no such tenant.', jsonb_build_object('tenant_id', p_tenant_id));
  END IF;
  PERFORM compliance.append(c_platform, 'tenant.home_removed', p_tenant_id::text, '{}');
END
$$;

COMMENT ON FUNCTION core.drop_home(uuid) IS
  'Forgets where a tenant of another region is at home, as when it has been deleted there. For platform_admin. Raises not_found, conflict.';
GRANT EXECUTE ON FUNCTION core.drop_home(uuid) TO app;
