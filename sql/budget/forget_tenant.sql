-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.forget_tenant()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM budget.reservations AS r WHERE r.tenant_id = old.id;
  DELETE FROM budget.ledger AS l WHERE l.tenant_id = old.id;
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION budget.forget_tenant() IS 'A tenant that is deleted takes its reservations and movements along: they have no foreign key.';

CREATE OR REPLACE TRIGGER forget_budget
AFTER DELETE ON core.tenants
FOR EACH ROW EXECUTE FUNCTION budget.forget_tenant();
