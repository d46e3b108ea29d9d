-- requires: 000_core
CREATE OR REPLACE FUNCTION events.forget_tenant()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM events.outbox AS o WHERE o.tenant_id = old.id;
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION events.forget_tenant() IS 'A tenant that is deleted takes its events along: the outbox has no foreign key.';

CREATE OR REPLACE TRIGGER forget_tenant
AFTER DELETE ON core.tenants
FOR EACH ROW EXECUTE FUNCTION events.forget_tenant();
