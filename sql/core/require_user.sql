-- requires: 000_core
CREATE OR REPLACE FUNCTION core.require_user()
RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF core.current_user_id() IS NULL THEN
    PERFORM ops.raise_problem('unauthenticated', 'The request acts for no user.');
  END IF;
  RETURN core.current_user_id();
END
$$;

COMMENT ON FUNCTION core.require_user() IS 'The user that the statement acts for; raises unauthenticated.';
GRANT EXECUTE ON FUNCTION core.require_user() TO app;
