-- requires: 000_core
CREATE OR REPLACE FUNCTION core.acting_tenant(p_tenant_id uuid)
RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF p_tenant_id IS NOT NULL AND p_tenant_id <> core.require_tenant() THEN
    IF NOT core.has_role('platform_admin') THEN
      PERFORM ops.raise_problem('forbidden', 'Another tenant is for a platform_admin.');
    ELSIF NOT EXISTS (SELECT FROM core.tenants AS t WHERE t.id = p_tenant_id) THEN
      PERFORM ops.raise_problem('not_found', 'There is no such tenant.', jsonb_build_object('tenant_id', p_tenant_id));
    END IF;
    RETURN p_tenant_id;
  END IF;
  RETURN core.require_tenant();
END
$$;

COMMENT ON FUNCTION core.acting_tenant(uuid) IS 'The tenant that is asked for: the current one, or for a platform_admin any. Raises forbidden, not_found. Internal.';
