-- requires: 000_core
CREATE OR REPLACE FUNCTION core.current_user_id()
RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('app.user_id', true), '')::uuid;

COMMENT ON FUNCTION core.current_user_id() IS 'The user that the statement acts for; NULL when unset, as it is for the work of the event functions.';
GRANT EXECUTE ON FUNCTION core.current_user_id() TO app, dba_readonly;
