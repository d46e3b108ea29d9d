-- requires: 000_core
CREATE OR REPLACE FUNCTION core.update_tenant(
  p_tenant_id uuid DEFAULT NULL, p_name text DEFAULT NULL, p_time_zone text DEFAULT NULL, p_active boolean DEFAULT NULL
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_id uuid := coalesce(p_tenant_id, core.require_tenant());
  v_tenant core.tenants;
BEGIN
  IF v_id = core.require_tenant() THEN
    PERFORM core.require_operation('tenant.update', 'tenants.update');
    IF p_active IS NOT NULL THEN
      PERFORM ops.raise_problem('invalid_request', 'active: nobody suspends the own tenant.');
    END IF;
  ELSE
    PERFORM core.require_operation('tenants.update');
  END IF;
  -- Days and months of the budgets begin by it: who could move them would have some of them twice.
  IF p_time_zone IS NOT NULL THEN
    PERFORM core.require_operation('tenants.update');
    PERFORM core.check_time_zone(p_time_zone);
  END IF;
  UPDATE core.tenants AS t
  SET name = coalesce(p_name, t.name), time_zone = coalesce(p_time_zone, t.time_zone),
      suspended_at = CASE WHEN p_active THEN NULL WHEN NOT p_active THEN coalesce(t.suspended_at, now()) ELSE t.suspended_at END
  WHERE t.id = v_id
  RETURNING * INTO v_tenant;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such tenant.', jsonb_build_object('tenant_id', v_id));
  END IF;
  PERFORM compliance.append(v_id, 'tenant.updated', v_id::text,
                            jsonb_strip_nulls(jsonb_build_object('renamed', nullif(p_name IS NOT NULL, false), 'time_zone', p_time_zone, 'active', p_active)));
  RETURN core.tenant_document(v_tenant);
END
$$;

COMMENT ON FUNCTION core.update_tenant(uuid, text, text, boolean) IS
  'Changes what is not NULL of the current tenant, or for platform_admin of any; a suspended tenant''s requests are refused. Raises not_found, invalid_request, forbidden.';
GRANT EXECUTE ON FUNCTION core.update_tenant(uuid, text, text, boolean) TO app;
