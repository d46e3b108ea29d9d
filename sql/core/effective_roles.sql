-- requires: 000_core
-- The default role is for people whom neither the token nor a grant gives one; a service account has what it was granted.
CREATE OR REPLACE FUNCTION core.effective_roles(p_tenant_id uuid, p_user_id uuid)
RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN cardinality(given.roles) = 0 AND u.kind = 'person' THEN array_remove(ARRAY[nullif(ops.setting('oidc_default_role'), '')], NULL)
    ELSE given.roles
  END
  FROM core.users AS u
  CROSS JOIN LATERAL (
    SELECT ARRAY(
      SELECT unnest(u.roles)
      UNION
      SELECT g.role FROM core.role_grants AS g WHERE g.tenant_id = u.tenant_id AND g.user_id = u.id
      UNION
      SELECT g.role FROM core.role_grants AS g WHERE g.tenant_id = u.tenant_id AND g.group_name = ANY (u.groups)
      ORDER BY 1)
  ) AS given (roles)
  WHERE u.tenant_id = p_tenant_id AND u.id = p_user_id
$$;

COMMENT ON FUNCTION core.effective_roles(uuid, uuid) IS
  'A user''s roles: those of the latest token, those granted to the user and to the user''s groups; or else OIDC_DEFAULT_ROLE. Internal: it trusts its arguments.';
