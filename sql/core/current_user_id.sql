-- requires: 000_core
CREATE OR REPLACE FUNCTION core.current_user_id()
RETURNS uuid
LANGUAGE sql STABLE
AS $$
  SELECT u.id
  FROM core.users AS u
  WHERE u.tenant_id = core.current_tenant() AND u.subject = nullif(current_setting('app.subject', true), '')
$$;

COMMENT ON FUNCTION core.current_user_id() IS 'The user that the statement acts for; NULL before the first sign-in.';
GRANT EXECUTE ON FUNCTION core.current_user_id() TO app;
