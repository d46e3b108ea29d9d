-- requires: 000_core
CREATE OR REPLACE FUNCTION core.require_tenant()
RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF core.current_tenant() IS NULL THEN
    PERFORM ops.raise_problem('tenant_unset', 'The request acts for no tenant.');
  END IF;
  RETURN core.current_tenant();
END
$$;

COMMENT ON FUNCTION core.require_tenant() IS
  'The tenant that the statement acts for; raises tenant_unset. Every SECURITY DEFINER function on tenant data starts with it.';
GRANT EXECUTE ON FUNCTION core.require_tenant() TO app;
