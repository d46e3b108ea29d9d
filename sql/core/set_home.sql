-- requires: 016_regions
CREATE OR REPLACE FUNCTION core.set_home(p_tenant_id uuid, p_region text, p_policy text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_platform constant uuid := '00000000-0000-0000-0000-000000000000';
  v_own constant text := core.own_region();
  v_here constant boolean := EXISTS (SELECT FROM core.tenants AS t WHERE t.id = p_tenant_id);
BEGIN
  PERFORM core.require_operation('regions.update');
  IF p_region = v_own AND NOT v_here THEN
    PERFORM ops.raise_problem('not_found', 'There is no such tenant in this region.', jsonb_build_object('tenant_id', p_tenant_id));
  ELSIF p_region <> v_own AND NOT EXISTS (SELECT FROM core.regions AS r WHERE r.name = p_region) THEN
    PERFORM ops.raise_problem('invalid_request', 'region: is not in the directory.', jsonb_build_object('region', p_region));
  ELSIF p_region <> v_own AND p_tenant_id = core.current_tenant() THEN
    PERFORM ops.raise_problem('invalid_request', 'region: nobody sends the own tenant away.');
  END IF;
  IF p_region = v_own THEN
    DELETE FROM core.tenant_homes AS h WHERE h.tenant_id = p_tenant_id;
  ELSE
    INSERT INTO core.tenant_homes AS h (tenant_id, region, policy)
    VALUES (p_tenant_id, p_region, p_policy)
    ON CONFLICT (tenant_id) DO UPDATE SET region = excluded.region, policy = excluded.policy, changed_at = now();
  END IF;
  -- Models are chosen by it.
  UPDATE core.tenants AS t SET region = p_region WHERE t.id = p_tenant_id;
  PERFORM compliance.append(CASE WHEN v_here THEN p_tenant_id ELSE c_platform END, 'tenant.home_changed', p_tenant_id::text,
                            jsonb_strip_nulls(jsonb_build_object('region', p_region, 'policy', p_policy)));
  RETURN core.read_home(p_tenant_id);
END
$$;

COMMENT ON FUNCTION core.set_home(uuid, text, text) IS
  'Says in which region a tenant is at home, with a policy of its own or NULL: core.read_home. It moves nothing. For platform_admin. Raises not_found, invalid_request.';
GRANT EXECUTE ON FUNCTION core.set_home(uuid, text, text) TO app;
