-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.balance_key(p_tenant_id uuid, p_scope text, p_holder_id uuid, p_period text, p_starts_on date)
RETURNS budget.balances
LANGUAGE sql IMMUTABLE
AS $$
  SELECT ROW(p_tenant_id, p_scope, p_holder_id, p_period, p_starts_on, NULL, 0, 0, NULL, 0, 0, 0, NULL, NULL)::budget.balances
$$;

COMMENT ON FUNCTION budget.balance_key(uuid, text, uuid, text, date) IS 'Which balance, without what is in it. Internal.';
