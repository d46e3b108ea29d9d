-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.present(p_needed budget.balances[])
RETURNS SETOF budget.balances
LANGUAGE sql STABLE
AS $$
  SELECT n.tenant_id, n.scope, n.holder_id, n.period, n.starts_on,
    CASE WHEN b.tenant_id IS NULL THEN n.tokens ELSE b.tokens END, coalesce(b.settled, m.settled), coalesce(b.reserved, m.reserved),
    CASE WHEN b.tenant_id IS NULL THEN n.cost_micros ELSE b.cost_micros END, coalesce(b.cost_settled, m.cost_settled),
    coalesce(b.cost_reserved, m.cost_reserved), coalesce(b.reached, 0::smallint), b.target_tokens, b.target_cost
  FROM unnest(p_needed) AS n
  LEFT JOIN budget.balances AS b
    ON b.tenant_id = n.tenant_id AND b.scope = n.scope AND b.holder_id = n.holder_id AND b.period = n.period AND b.starts_on = n.starts_on
  LEFT JOIN LATERAL budget.moved(n.tenant_id, n.scope, n.holder_id, n.period, n.starts_on) AS m ON b.tenant_id IS NULL
$$;

COMMENT ON FUNCTION budget.present(budget.balances[]) IS 'Balances as they are, or as the first turn that needs them would make them. Internal.';
