-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.list_budgets()
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.require_user();
  v_all boolean := core.has_role('tenant_admin') OR core.has_role('auditor');
BEGIN
  PERFORM core.require_operation('budgets.read');
  RETURN (
    WITH bound AS (
      SELECT a.* FROM budget.applicable(v_tenant, NULL, NULL) AS a
      UNION ALL
      SELECT v_tenant, l.scope, l.holder_id, l.period, CASE l.period WHEN 'day' THEN p.day ELSE p.month END,
        l.tokens, 0, 0, l.cost_micros, 0, 0, 0::smallint
      FROM budget.limits AS l CROSS JOIN budget.periods(v_tenant) AS p
      WHERE l.tenant_id = v_tenant AND l.scope <> 'tenant'
        AND (v_all OR l.holder_id = v_user OR l.holder_id IN (SELECT k.id FROM core.api_keys AS k WHERE k.tenant_id = v_tenant AND k.user_id = v_user))
    ), present AS (
      SELECT coalesce(b.tenant_id, n.tenant_id) AS tenant_id, n.scope, n.holder_id, n.period, n.starts_on,
        CASE WHEN b.tenant_id IS NULL THEN n.tokens ELSE b.tokens END AS tokens,
        coalesce(b.settled, m.settled) AS settled, coalesce(b.reserved, m.reserved) AS reserved,
        CASE WHEN b.tenant_id IS NULL THEN n.cost_micros ELSE b.cost_micros END AS cost_micros,
        coalesce(b.cost_settled, m.cost_settled) AS cost_settled, coalesce(b.cost_reserved, m.cost_reserved) AS cost_reserved,
        coalesce(b.reached, 0::smallint) AS reached
      FROM bound AS n
      LEFT JOIN budget.balances AS b
        ON b.tenant_id = n.tenant_id AND b.scope = n.scope AND b.holder_id = n.holder_id AND b.period = n.period AND b.starts_on = n.starts_on
      -- A limit that nobody has met yet has no balance: then the ledger says what counts in it already.
      LEFT JOIN LATERAL budget.moved(n.tenant_id, n.scope, n.holder_id, n.period, n.starts_on) AS m ON b.tenant_id IS NULL
    )
    SELECT coalesce(jsonb_agg(
      budget.balance_document(p::budget.balances) || jsonb_build_object(
        'scope', p.scope, 'holder_id', p.holder_id, 'period', p.period, 'starts_on', p.starts_on, 'reached', p.reached,
        'paused', EXISTS (
          SELECT FROM budget.limits AS l
          WHERE l.tenant_id = v_tenant AND l.scope = p.scope AND l.holder_id = p.holder_id AND l.period = p.period AND l.paused_at IS NOT NULL))
      ORDER BY p.scope = 'tenant' DESC, p.scope DESC, p.holder_id, p.period), '[]')
    FROM present AS p);
END
$$;

COMMENT ON FUNCTION budget.list_budgets() IS
  'The running day and month of the tenant and of limits of users and keys: one''s own, or for tenant_admin and auditor all: [budget.balance_document and whose it is].';
GRANT EXECUTE ON FUNCTION budget.list_budgets() TO app;
