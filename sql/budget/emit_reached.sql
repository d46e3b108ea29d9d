-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.emit_reached()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM events.emit(
    'com.enterprise-agents.budget.reached.v1', new.tenant_id, new.holder_id::text,
    jsonb_build_object('region', ops.setting('region'), 'partitionkey', new.tenant_id),
    budget.balance_document(new) || jsonb_build_object(
      'scope', new.scope, 'holder_id', new.holder_id, 'period', new.period, 'starts_on', new.starts_on, 'percent', new.reached),
    p_ordered => true);
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION budget.emit_reached() IS 'A balance has used 80 or 100 percent of its limit, for the first time in its period: emits budget.reached.';

CREATE OR REPLACE TRIGGER emit_reached
AFTER UPDATE OF reached ON budget.balances
FOR EACH ROW WHEN (new.reached > old.reached) EXECUTE FUNCTION budget.emit_reached();
