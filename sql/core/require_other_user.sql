-- requires: 000_core
CREATE OR REPLACE FUNCTION core.require_other_user(p_user_id uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF p_user_id = core.current_user_id() THEN
    PERFORM ops.raise_problem('forbidden', 'Nobody disables or erases the own account.');
  END IF;
  PERFORM FROM core.users AS u WHERE u.tenant_id = core.require_tenant() AND u.id = p_user_id FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such user.', jsonb_build_object('user_id', p_user_id));
  ELSIF NOT core.has_role('platform_admin')
    AND 'platform_admin' = ANY (core.effective_roles(core.require_tenant(), p_user_id)) THEN
    PERFORM ops.raise_problem('forbidden', 'Only a platform_admin disables or erases a platform_admin.');
  END IF;
END
$$;

COMMENT ON FUNCTION core.require_other_user(uuid) IS 'Locks a user of the current tenant whom the caller may disable or erase; raises not_found, forbidden. Internal.';
