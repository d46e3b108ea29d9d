-- requires: 000_core
CREATE OR REPLACE FUNCTION core.replace_grants(p_user_id uuid, p_group_name text, p_roles text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_before text[];
  v_after text[] := core.known_roles(p_roles);
BEGIN
  IF EXISTS (SELECT unnest(p_roles) EXCEPT SELECT unnest(v_after)) THEN
    PERFORM ops.raise_problem('invalid_request', 'roles: must be some of platform_admin, tenant_admin, member, viewer, auditor, service.');
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended(format('grants/%s/%s/%s', v_tenant, p_user_id, p_group_name), 0));
  v_before := ARRAY(
    SELECT g.role FROM core.role_grants AS g
    WHERE g.tenant_id = v_tenant AND (g.user_id = p_user_id OR g.group_name = p_group_name)
    ORDER BY 1);
  -- Nobody gives or takes the one role that reaches beyond the tenant without having it.
  IF ('platform_admin' = ANY (v_before)) <> ('platform_admin' = ANY (v_after)) AND NOT core.has_role('platform_admin') THEN
    PERFORM ops.raise_problem('forbidden', 'Only a platform_admin grants or takes away platform_admin.');
  ELSIF v_before = v_after THEN
    RETURN;
  END IF;
  DELETE FROM core.role_grants AS g
  WHERE g.tenant_id = v_tenant AND (g.user_id = p_user_id OR g.group_name = p_group_name) AND g.role <> ALL (v_after);
  INSERT INTO core.role_grants (tenant_id, role, user_id, group_name)
  SELECT v_tenant, r.role, p_user_id, p_group_name FROM unnest(v_after) AS r (role)
  ON CONFLICT DO NOTHING;
  -- A group's name says nothing of a person.
  PERFORM compliance.append(v_tenant, 'roles.changed', coalesce(p_user_id::text, 'group:' || p_group_name),
                            jsonb_build_object('before', v_before, 'after', v_after));
END
$$;

COMMENT ON FUNCTION core.replace_grants(uuid, text, text[]) IS
  'Makes these the roles granted to a user or a group, and audits the change. Raises invalid_request, forbidden. Internal: it trusts its caller that this may be done.';
