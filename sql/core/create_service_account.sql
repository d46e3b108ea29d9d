-- requires: 000_core
CREATE OR REPLACE FUNCTION core.create_service_account(p_name text, p_roles text[] DEFAULT '{service}')
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user core.users;
BEGIN
  PERFORM core.require_operation('users.create');
  INSERT INTO core.users (tenant_id, subject, kind, name)
  VALUES (v_tenant, 'service:' || p_name, 'service', p_name)
  ON CONFLICT (tenant_id, subject) DO NOTHING
  RETURNING * INTO v_user;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('conflict', 'There is a service account of this name.', jsonb_build_object('name', p_name));
  END IF;
  PERFORM compliance.append(v_tenant, 'user.created', v_user.id::text, jsonb_build_object('kind', 'service'));
  PERFORM core.replace_grants(v_user.id, NULL, p_roles);
  RETURN core.user_document(v_user);
END
$$;

COMMENT ON FUNCTION core.create_service_account(text, text[]) IS
  'Makes a user that acts by API keys alone, with the granted roles: core.user_document. Raises conflict, invalid_request, forbidden.';
GRANT EXECUTE ON FUNCTION core.create_service_account(text, text[]) TO app;
