-- requires: 000_core
CREATE OR REPLACE FUNCTION core.sign_in()
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.current_user_id();
BEGIN
  IF v_user IS NULL THEN
    IF NOT EXISTS (SELECT FROM core.tenants AS t WHERE t.id = v_tenant) THEN
      PERFORM ops.raise_problem('tenant_unset', 'The token names a tenant that does not exist.');
    END IF;
    INSERT INTO core.users (tenant_id, subject)
    VALUES (v_tenant, current_setting('app.subject'))
    ON CONFLICT (tenant_id, subject) DO NOTHING;
    v_user := core.current_user_id();
  END IF;
  RETURN v_user;
END
$$;

COMMENT ON FUNCTION core.sign_in() IS 'The current user''s id, provisioned in the current tenant at the first request.';
GRANT EXECUTE ON FUNCTION core.sign_in() TO app;
