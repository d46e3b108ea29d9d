-- requires: 016_regions
CREATE OR REPLACE FUNCTION core.read_home(p_tenant_id uuid)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_home constant jsonb := core.residency(p_tenant_id);
BEGIN
  PERFORM core.require_operation('regions.read', 'regions.update');
  IF v_home ->> 'decision' = 'unknown' THEN
    PERFORM ops.raise_problem('not_found', 'There is no such tenant, here or in the directory.', jsonb_build_object('tenant_id', p_tenant_id));
  END IF;
  RETURN jsonb_build_object(
    'tenant_id', p_tenant_id, 'region', v_home -> 'region', 'decision', v_home -> 'decision',
    'policy', (SELECT h.policy FROM core.tenant_homes AS h WHERE h.tenant_id = p_tenant_id));
END
$$;

COMMENT ON FUNCTION core.read_home(uuid) IS
  'Where a tenant is at home, and what becomes of its requests here: {tenant_id, region, decision, policy}. For platform_admin. Raises not_found.';
GRANT EXECUTE ON FUNCTION core.read_home(uuid) TO app;
