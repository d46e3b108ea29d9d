-- requires: 000_core
CREATE OR REPLACE FUNCTION compliance.refuse_change()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION 'compliance.audit_log is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$;

COMMENT ON FUNCTION compliance.refuse_change() IS 'Refuses to change or delete what was logged, also for the owner.';

CREATE OR REPLACE TRIGGER append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON compliance.audit_log
FOR EACH STATEMENT EXECUTE FUNCTION compliance.refuse_change();
