-- requires: 012_budget_metrics
-- Returns a table, because such a function is inlined into the statement that asks.
CREATE OR REPLACE FUNCTION budget.periods(p_tenant_id uuid)
RETURNS TABLE (day date, month date)
LANGUAGE sql STABLE
AS $$
  SELECT (budget.clock() AT TIME ZONE t.time_zone)::date, date_trunc('month', budget.clock() AT TIME ZONE t.time_zone)::date
  FROM core.tenants AS t
  WHERE t.id = p_tenant_id
$$;

COMMENT ON FUNCTION budget.periods(uuid) IS 'First days of the running day and month in a tenant''s time zone. Internal.';
