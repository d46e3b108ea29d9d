-- requires: 000_core
-- The default role is for people whom neither the token nor a grant gives one; a service account has what it was granted.
CREATE OR REPLACE FUNCTION core.effective_roles(p_tenant_id uuid, p_user_id uuid)
RETURNS text[]
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_kind text;
  v_groups text[];
  v_roles text[];
BEGIN
  SELECT u.kind, u.groups, u.roles INTO v_kind, v_groups, v_roles
  FROM core.users AS u
  WHERE u.tenant_id = p_tenant_id AND u.id = p_user_id;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  v_roles := ARRAY(
    SELECT unnest(v_roles)
    UNION
    SELECT g.role FROM core.role_grants AS g WHERE g.tenant_id = p_tenant_id AND g.user_id = p_user_id
    UNION
    SELECT g.role FROM core.role_grants AS g WHERE g.tenant_id = p_tenant_id AND g.group_name = ANY (v_groups)
    ORDER BY 1);
  IF v_kind = 'person' AND cardinality(v_roles) = 0 THEN
    RETURN array_remove(ARRAY[nullif(ops.setting('oidc_default_role'), '')], NULL);
  END IF;
  RETURN v_roles;
END
$$;

COMMENT ON FUNCTION core.effective_roles(uuid, uuid) IS
  'A user''s roles: those of the latest token, those granted to the user and to the user''s groups; or else OIDC_DEFAULT_ROLE. Internal: it trusts its arguments.';
