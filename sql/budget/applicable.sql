-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.applicable(p_tenant_id uuid, p_user_id uuid, p_api_key_id uuid)
RETURNS SETOF budget.balances
LANGUAGE sql STABLE
AS $$
  SELECT p_tenant_id, h.scope, h.holder_id, p.period, p.starts_on,
    CASE h.scope WHEN 'tenant' THEN coalesce(l.tokens, p.fallback) ELSE l.tokens END, 0::bigint, 0::bigint,
    l.cost_micros, 0::bigint, 0::bigint, 0::smallint,
    CASE h.scope WHEN 'tenant' THEN coalesce(l.tokens, p.fallback) ELSE l.tokens END, l.cost_micros
  FROM budget.periods(p_tenant_id) AS now
  CROSS JOIN LATERAL (VALUES (1, 'tenant', p_tenant_id), (2, 'user', p_user_id), (3, 'api_key', p_api_key_id)) AS h (position, scope, holder_id)
  CROSS JOIN LATERAL (VALUES ('day', now.day, ops.setting('token_budget_daily')::bigint),
                             ('month', now.month, ops.setting('token_budget_monthly')::bigint)) AS p (period, starts_on, fallback)
  LEFT JOIN budget.limits AS l
    ON l.tenant_id = p_tenant_id AND l.scope = h.scope AND l.holder_id = h.holder_id AND l.period = p.period
  WHERE now.day IS NOT NULL AND (h.scope = 'tenant' OR l.tenant_id IS NOT NULL)
  ORDER BY h.position, p.period DESC
$$;

COMMENT ON FUNCTION budget.applicable(uuid, uuid, uuid) IS
  'The balances that a turn needs now, empty, with their limits: the tenant''s day and month always, the user''s and the key''s where they have limits. Internal.';
