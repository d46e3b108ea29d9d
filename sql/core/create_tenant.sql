-- requires: 000_core
CREATE OR REPLACE FUNCTION core.create_tenant(p_slug text, p_name text, p_time_zone text DEFAULT 'UTC', p_admin_subject text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant core.tenants;
  v_admin uuid;
BEGIN
  PERFORM core.require_operation('tenants.create');
  PERFORM core.check_time_zone(p_time_zone);
  INSERT INTO core.tenants (slug, name, region, time_zone)
  VALUES (p_slug, p_name, coalesce(ops.setting('region'), 'local'), p_time_zone)
  ON CONFLICT (slug) DO NOTHING
  RETURNING * INTO v_tenant;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('conflict', 'There is a tenant with this slug.', jsonb_build_object('slug', p_slug));
  END IF;
  IF p_admin_subject IS NOT NULL THEN
    INSERT INTO core.users (tenant_id, subject) VALUES (v_tenant.id, p_admin_subject) RETURNING id INTO v_admin;
    INSERT INTO core.role_grants (tenant_id, role, user_id) VALUES (v_tenant.id, 'tenant_admin', v_admin);
  END IF;
  PERFORM compliance.append(v_tenant.id, 'tenant.created', v_tenant.id::text, jsonb_strip_nulls(jsonb_build_object('slug', p_slug, 'admin_id', v_admin)));
  RETURN core.tenant_document(v_tenant);
END
$$;

COMMENT ON FUNCTION core.create_tenant(text, text, text, text) IS
  'Makes a tenant, with a tenant_admin of the given subject if there is one: core.tenant_document. Across tenants: for platform_admin. Raises conflict, invalid_request.';
GRANT EXECUTE ON FUNCTION core.create_tenant(text, text, text, text) TO app;
