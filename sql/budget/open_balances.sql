-- requires: 012_budget_metrics
-- A limit that is set in the middle of a period counts what was used and is held in it already: the ledger knows. A balance
-- that was overdrawn before it had a limit is full.
CREATE OR REPLACE FUNCTION budget.open_balances(p_needed budget.balances[], p_without_turns uuid[] DEFAULT '{}')
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO budget.balances (tenant_id, scope, holder_id, period, starts_on, tokens, settled, reserved, cost_micros, cost_settled, cost_reserved,
                               target_tokens, target_cost)
  SELECT n.tenant_id, n.scope, n.holder_id, n.period, n.starts_on,
    budget.limit_now(n.tokens, m.settled + m.reserved), m.settled, m.reserved,
    budget.limit_now(n.cost_micros, m.cost_settled + m.cost_reserved), m.cost_settled, m.cost_reserved,
    n.tokens, n.cost_micros
  FROM unnest(p_needed) AS n
  CROSS JOIN LATERAL budget.moved(n.tenant_id, n.scope, n.holder_id, n.period, n.starts_on, p_without_turns) AS m
  -- A limit may have been taken away since it was read: under the lock it is seen.
  WHERE (n.scope = 'tenant' OR EXISTS (
    SELECT FROM budget.limits AS l
    WHERE l.tenant_id = n.tenant_id AND l.scope = n.scope AND l.holder_id = n.holder_id AND l.period = n.period))
    AND NOT EXISTS (
    SELECT FROM budget.balances AS b
    WHERE b.tenant_id = n.tenant_id AND b.scope = n.scope AND b.holder_id = n.holder_id AND b.period = n.period AND b.starts_on = n.starts_on)
  ON CONFLICT (tenant_id, scope, holder_id, period, starts_on) DO NOTHING
$$;

COMMENT ON FUNCTION budget.open_balances(budget.balances[], uuid[]) IS
  'Makes those of the balances that are not there, with what the ledger has for them, but for some turns. Internal: a user''s or key''s under the tenant''s lock.';
