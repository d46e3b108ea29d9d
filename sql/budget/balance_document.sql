-- requires: 012_budget_metrics
-- A day begins at its first midnight. Where summer time ends at one o'clock there are two, and AT TIME ZONE means the second.
CREATE OR REPLACE FUNCTION budget.balance_document(p_balance budget.balances)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'limit', p_balance.tokens, 'settled', p_balance.settled, 'reserved', p_balance.reserved,
    'remaining', p_balance.tokens - p_balance.settled - p_balance.reserved,
    'resets_at', r.midnight - CASE WHEN (r.midnight - interval '1 hour') AT TIME ZONE t.time_zone >= r.next THEN interval '1 hour' ELSE '0' END)
    || CASE WHEN p_balance.cost_micros IS NULL THEN '{}' ELSE jsonb_build_object(
      'cost_limit', p_balance.cost_micros, 'cost_settled', p_balance.cost_settled, 'cost_reserved', p_balance.cost_reserved,
      'cost_remaining', p_balance.cost_micros - p_balance.cost_settled - p_balance.cost_reserved) END
  FROM core.tenants AS t
  CROSS JOIN LATERAL (
    SELECT n.next, n.next AT TIME ZONE t.time_zone AS midnight
    FROM (SELECT p_balance.starts_on + CASE p_balance.period WHEN 'day' THEN interval '1 day' ELSE interval '1 month' END) AS n (next)
  ) AS r
  WHERE t.id = p_balance.tenant_id
$$;

COMMENT ON FUNCTION budget.balance_document(budget.balances) IS
  'What is told of a balance: {limit, settled, reserved, remaining, resets_at} in tokens, and where there is a limit in money the same in millionths, as cost_*. Internal.';
