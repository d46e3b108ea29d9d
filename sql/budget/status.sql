-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.status()
RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_object_agg(p.period, budget.balance_document(ROW(
    t.id, 'tenant', t.id, p.period, p.starts_on,
    coalesce(b.tokens, l.tokens, p.fallback), coalesce(b.settled, 0), coalesce(b.reserved, 0))::budget.balances))
  FROM core.tenants AS t
  CROSS JOIN LATERAL (VALUES
    ('day', (now() AT TIME ZONE t.time_zone)::date, ops.setting('token_budget_daily')::bigint),
    ('month', date_trunc('month', now() AT TIME ZONE t.time_zone)::date, ops.setting('token_budget_monthly')::bigint)
  ) AS p (period, starts_on, fallback)
  LEFT JOIN budget.limits AS l ON l.tenant_id = t.id AND l.scope = 'tenant' AND l.holder_id = t.id AND l.period = p.period
  LEFT JOIN budget.balances AS b
    ON b.tenant_id = t.id AND b.scope = 'tenant' AND b.holder_id = t.id AND b.period = p.period AND b.starts_on = p.starts_on
  WHERE t.id = core.require_tenant()
$$;

COMMENT ON FUNCTION budget.status() IS
  'The current tenant''s day and month: {"day": {limit, settled, reserved, remaining, resets_at}, "month": {...}}, in tokens.';
GRANT EXECUTE ON FUNCTION budget.status() TO app;
