-- requires: 000_core
CREATE OR REPLACE FUNCTION core.is_operator()
RETURNS boolean
LANGUAGE sql STABLE
RETURN pg_has_role(session_user, 'ea_owner', 'MEMBER');

COMMENT ON FUNCTION core.is_operator() IS
  'Whether a person with the owner''s rights is logged in to the database, and not a function: that person could do everything by hand.';
GRANT EXECUTE ON FUNCTION core.is_operator() TO app;
