-- requires: 012_budget_metrics
-- Without a SET clause and in SQL, so that it is inlined and the primary key is used.
CREATE OR REPLACE FUNCTION budget.concerns(p_balance budget.balances, p_held budget.reservations)
RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
  SELECT (p_balance.scope, p_balance.holder_id) IN (('tenant', p_held.tenant_id), ('user', p_held.user_id), ('api_key', p_held.api_key_id))
    AND (p_balance.period, p_balance.starts_on) IN (('day', p_held.day), ('month', p_held.month))
$$;

COMMENT ON FUNCTION budget.concerns(budget.balances, budget.reservations) IS 'Whether a balance of the same tenant is one that a reservation counts in. Internal.';
