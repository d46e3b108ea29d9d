-- requires: 000_core
-- Plain, like what every call begins with: a SET clause, or a function of several statements, is not inlined, and costs five times as much.
CREATE OR REPLACE FUNCTION core.require_tenant()
RETURNS uuid
LANGUAGE sql STABLE
AS $$
  SELECT coalesce(core.current_tenant(), core.unset('tenant_unset', 'The request acts for no tenant.'))
$$;

COMMENT ON FUNCTION core.require_tenant() IS
  'The tenant that the statement acts for; raises tenant_unset. Every SECURITY DEFINER function on tenant data starts with it.';
GRANT EXECUTE ON FUNCTION core.require_tenant() TO app;
