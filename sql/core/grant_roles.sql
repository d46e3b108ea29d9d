-- requires: 000_core
CREATE OR REPLACE FUNCTION core.grant_roles(p_roles text[], p_user_id uuid DEFAULT NULL, p_group_name text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  PERFORM core.require_operation('roles.grant');
  IF num_nonnulls(p_user_id, p_group_name) <> 1 THEN
    PERFORM ops.raise_problem('invalid_request', 'Name either a user or a group.');
  ELSIF p_user_id = core.current_user_id() THEN
    PERFORM ops.raise_problem('forbidden', 'Nobody changes the own roles.');
  ELSIF NOT core.is_operator() AND EXISTS (
    SELECT FROM core.users AS u
    WHERE u.tenant_id = v_tenant AND u.id = core.current_user_id() AND p_group_name = ANY (u.groups)
      AND NOT core.known_roles(p_roles) <@ core.effective_roles(v_tenant, u.id)
  ) THEN
    PERFORM ops.raise_problem('forbidden', 'Nobody gives an own group a role that one has not.');
  ELSIF p_user_id IS NOT NULL AND NOT EXISTS (SELECT FROM core.users AS u WHERE u.tenant_id = v_tenant AND u.id = p_user_id) THEN
    PERFORM ops.raise_problem('not_found', 'There is no such user.', jsonb_build_object('user_id', p_user_id));
  END IF;
  PERFORM core.replace_grants(p_user_id, p_group_name, p_roles);
  RETURN jsonb_build_object('user_id', p_user_id, 'group', p_group_name, 'roles', core.known_roles(p_roles));
END
$$;

COMMENT ON FUNCTION core.grant_roles(text[], uuid, text) IS
  'Makes these the roles granted to a user or to whoever has a group: {user_id, group, roles}. Raises not_found, invalid_request, forbidden.';
GRANT EXECUTE ON FUNCTION core.grant_roles(text[], uuid, text) TO app;
