-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.verify(p_tenant_id uuid DEFAULT NULL, p_since date DEFAULT NULL)
RETURNS TABLE (
  tenant_id uuid, scope text, holder_id uuid, period text, starts_on date,
  settled bigint, ledger_settled bigint, reserved bigint, ledger_reserved bigint,
  cost_settled bigint, ledger_cost_settled bigint, cost_reserved bigint, ledger_cost_reserved bigint
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  -- Months whose partition was detached cannot be recomputed any more.
  WITH attached AS (
    SELECT min(to_date(right(c.relname, 7), 'YYYY_MM')) AS month
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'budget.ledger'::regclass AND c.relname ~ '^ledger_[0-9]{4}_[0-9]{2}$'
    UNION ALL
    SELECT min(d.month) FROM budget.ledger_default AS d
  ), bounds AS (
    SELECT greatest(p_since, (SELECT min(a.month) FROM attached AS a)) AS first
  ), moved AS (
    SELECT l.tenant_id, h.scope, h.holder_id, p.period, p.starts_on,
      coalesce(sum(l.tokens) FILTER (WHERE l.entry = 'settle'), 0)::bigint AS settled,
      coalesce(sum(CASE l.entry WHEN 'reserve' THEN l.tokens WHEN 'release' THEN -l.tokens END), 0)::bigint AS reserved,
      coalesce(sum(l.cost_micros) FILTER (WHERE l.entry = 'settle'), 0)::bigint AS cost_settled,
      coalesce(sum(CASE l.entry WHEN 'reserve' THEN l.cost_micros WHEN 'release' THEN -l.cost_micros END), 0)::bigint AS cost_reserved
    FROM budget.ledger AS l
    CROSS JOIN LATERAL (VALUES ('tenant', l.tenant_id), ('user', l.user_id), ('api_key', l.api_key_id)) AS h (scope, holder_id)
    CROSS JOIN LATERAL (VALUES ('day', l.day), ('month', l.month)) AS p (period, starts_on)
    WHERE (p_tenant_id IS NULL OR l.tenant_id = p_tenant_id) AND l.month >= (SELECT b.first FROM bounds AS b) AND h.holder_id IS NOT NULL
    GROUP BY l.tenant_id, h.scope, h.holder_id, p.period, p.starts_on
  ), kept AS (
    SELECT * FROM budget.balances AS b
    WHERE (p_tenant_id IS NULL OR b.tenant_id = p_tenant_id)
      AND date_trunc('month', b.starts_on)::date >= coalesce((SELECT o.first FROM bounds AS o), '-infinity')
  )
  SELECT coalesce(k.tenant_id, m.tenant_id), coalesce(k.scope, m.scope), coalesce(k.holder_id, m.holder_id),
    coalesce(k.period, m.period), coalesce(k.starts_on, m.starts_on),
    k.settled, coalesce(m.settled, 0), k.reserved, coalesce(m.reserved, 0),
    k.cost_settled, coalesce(m.cost_settled, 0), k.cost_reserved, coalesce(m.cost_reserved, 0)
  FROM kept AS k
  FULL JOIN moved AS m USING (tenant_id, scope, holder_id, period, starts_on)
  WHERE (k.settled, k.reserved, k.cost_settled, k.cost_reserved)
      IS DISTINCT FROM (coalesce(m.settled, 0), coalesce(m.reserved, 0), coalesce(m.cost_settled, 0), coalesce(m.cost_reserved, 0))
    -- A user or key without a limit has movements and no balance.
    AND NOT (k.scope IS NULL AND m.scope <> 'tenant')
$$;

COMMENT ON FUNCTION budget.verify(uuid, date) IS
  'The balances, of one tenant or all, that differ from the sums of the ledger, since a month or as far as the ledger reaches: none, ever.';
GRANT EXECUTE ON FUNCTION budget.verify(uuid, date) TO dba_readonly;
