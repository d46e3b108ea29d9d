-- requires: 000_core
CREATE OR REPLACE FUNCTION compliance.audit_chain(p_platform boolean)
RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF p_platform THEN
    IF NOT core.has_role('platform_admin') THEN
      PERFORM ops.raise_problem('forbidden', 'The platform''s own log is for a platform_admin.');
    END IF;
    RETURN '00000000-0000-0000-0000-000000000000';
  ELSIF NOT (core.has_role('tenant_admin') OR core.has_role('auditor')) THEN
    PERFORM ops.raise_problem('forbidden', 'The tenant''s log is for a tenant_admin or an auditor.');
  END IF;
  RETURN core.require_tenant();
END
$$;

COMMENT ON FUNCTION compliance.audit_chain(boolean) IS 'Whose chain the caller may read: the current tenant''s, or as platform_admin the platform''s. Raises forbidden. Internal.';
