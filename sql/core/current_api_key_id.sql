-- requires: 000_core
CREATE OR REPLACE FUNCTION core.current_api_key_id()
RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('app.api_key_id', true), '')::uuid;

COMMENT ON FUNCTION core.current_api_key_id() IS 'The API key by which the statement acts; NULL for a token.';
GRANT EXECUTE ON FUNCTION core.current_api_key_id() TO app, dba_readonly;
