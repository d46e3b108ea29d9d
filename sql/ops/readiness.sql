-- requires: 000_core
CREATE OR REPLACE FUNCTION ops.readiness()
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object('bypasses_policies', r.rolsuper OR r.rolbypassrls OR pg_has_role(r.oid, 'ea_owner', 'MEMBER'))
  FROM pg_roles AS r
  WHERE r.rolname = current_user
$$;

COMMENT ON FUNCTION ops.readiness() IS 'What a function checks before it takes traffic: {bypasses_policies} for the connected role.';
GRANT EXECUTE ON FUNCTION ops.readiness() TO app;
