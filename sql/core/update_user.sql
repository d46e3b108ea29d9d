-- requires: 000_core
CREATE OR REPLACE FUNCTION core.update_user(p_user_id uuid, p_active boolean)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user core.users;
BEGIN
  PERFORM core.require_operation('users.update');
  PERFORM core.require_other_user(p_user_id);
  UPDATE core.users AS u
  SET disabled_at = CASE WHEN p_active THEN NULL ELSE coalesce(u.disabled_at, now()) END
  WHERE u.tenant_id = v_tenant AND u.id = p_user_id
  RETURNING * INTO v_user;
  PERFORM compliance.append(v_tenant, CASE WHEN p_active THEN 'user.enabled' ELSE 'user.disabled' END, p_user_id::text, '{}');
  RETURN core.user_document(v_user);
END
$$;

COMMENT ON FUNCTION core.update_user(uuid, boolean) IS 'Enables a user, or disables one: whose every request is refused then, by token or key. Raises not_found, forbidden.';
GRANT EXECUTE ON FUNCTION core.update_user(uuid, boolean) TO app;
