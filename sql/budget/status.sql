-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.status()
RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_object_agg(a.period, budget.balance_document(CASE WHEN b.tenant_id IS NULL THEN a ELSE b END))
  FROM budget.applicable(core.require_tenant(), NULL, NULL) AS a
  LEFT JOIN budget.balances AS b
    ON b.tenant_id = a.tenant_id AND b.scope = a.scope AND b.holder_id = a.holder_id AND b.period = a.period AND b.starts_on = a.starts_on
$$;

COMMENT ON FUNCTION budget.status() IS
  'The current tenant''s day and month: {"day": {limit, settled, reserved, remaining, resets_at}, "month": {...}}, in tokens.';
GRANT EXECUTE ON FUNCTION budget.status() TO app;
