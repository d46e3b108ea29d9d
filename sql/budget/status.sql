-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.status()
RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_object_agg(p.period, budget.balance_document(p))
  FROM budget.present(ARRAY(SELECT a FROM budget.applicable(core.require_tenant(), NULL, NULL) AS a)) AS p
$$;

COMMENT ON FUNCTION budget.status() IS
  'The current tenant''s day and month: {"day": {limit, settled, reserved, remaining, resets_at}, "month": {...}}, in tokens.';
GRANT EXECUTE ON FUNCTION budget.status() TO app;
