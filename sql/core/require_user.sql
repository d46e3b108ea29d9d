-- requires: 000_core
-- Plain, so that it is inlined: see core.require_tenant.
CREATE OR REPLACE FUNCTION core.require_user()
RETURNS uuid
LANGUAGE sql STABLE
AS $$
  SELECT coalesce(core.current_user_id(), core.unset('unauthenticated', 'The request acts for no user.'))
$$;

COMMENT ON FUNCTION core.require_user() IS 'The user that the statement acts for; raises unauthenticated.';
GRANT EXECUTE ON FUNCTION core.require_user() TO app;
