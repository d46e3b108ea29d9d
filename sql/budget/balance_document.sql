-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.balance_document(p_balance budget.balances)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'limit', p_balance.tokens, 'settled', p_balance.settled, 'reserved', p_balance.reserved,
    'remaining', p_balance.tokens - p_balance.settled - p_balance.reserved,
    'resets_at', (p_balance.starts_on + CASE p_balance.period WHEN 'day' THEN interval '1 day' ELSE interval '1 month' END) AT TIME ZONE t.time_zone)
    || CASE WHEN p_balance.cost_micros IS NULL THEN '{}' ELSE jsonb_build_object(
      'cost_limit', p_balance.cost_micros, 'cost_settled', p_balance.cost_settled, 'cost_reserved', p_balance.cost_reserved,
      'cost_remaining', p_balance.cost_micros - p_balance.cost_settled - p_balance.cost_reserved) END
  FROM core.tenants AS t
  WHERE t.id = p_balance.tenant_id
$$;

COMMENT ON FUNCTION budget.balance_document(budget.balances) IS
  'What is told of a balance: {limit, settled, reserved, remaining, resets_at} in tokens, and where there is a limit in money the same in millionths, as cost_*. Internal.';
