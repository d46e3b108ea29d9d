-- requires: 000_core
-- An unset setting is NULL; after a SET LOCAL of an earlier transaction it is ''. Neither may match a row.
CREATE OR REPLACE FUNCTION core.current_tenant()
RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('app.tenant_id', true), '')::uuid;

COMMENT ON FUNCTION core.current_tenant() IS 'The tenant that the statement acts for; NULL when unset, which matches no row.';
GRANT EXECUTE ON FUNCTION core.current_tenant() TO app, dba_readonly;
