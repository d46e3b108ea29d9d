-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.top_up(p_scope text, p_holder_id uuid, p_period text, p_tokens bigint DEFAULT 0, p_cost_micros bigint DEFAULT 0)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_balance budget.balances;
BEGIN
  PERFORM core.require_operation('budgets.update');
  v_tenant := budget.require_holder(p_scope, p_holder_id);
  PERFORM budget.lock_running(v_tenant);
  PERFORM budget.open_balances(ARRAY(
    SELECT a FROM budget.applicable(v_tenant, CASE p_scope WHEN 'user' THEN p_holder_id END, CASE p_scope WHEN 'api_key' THEN p_holder_id END) AS a
    WHERE a.scope <> 'tenant'));
  UPDATE budget.balances AS b
  SET target_tokens = n.tokens, tokens = budget.limit_now(n.tokens, b.settled + b.reserved),
      target_cost = n.cost, cost_micros = budget.limit_now(n.cost, b.cost_settled + b.cost_reserved),
      reached = least(b.reached, greatest(budget.share_reached(b.settled, n.tokens), budget.share_reached(b.cost_settled, n.cost)))
  FROM budget.periods(v_tenant) AS now
  CROSS JOIN budget.balances AS k
  CROSS JOIN LATERAL (SELECT k.target_tokens + p_tokens AS tokens, k.target_cost + p_cost_micros AS cost) AS n
  WHERE b.tenant_id = v_tenant AND b.scope = p_scope AND b.holder_id = p_holder_id AND b.period = p_period
    AND b.starts_on = CASE p_period WHEN 'day' THEN now.day ELSE now.month END
    AND (k.tenant_id, k.scope, k.holder_id, k.period, k.starts_on) = (b.tenant_id, b.scope, b.holder_id, b.period, b.starts_on)
  RETURNING b.* INTO v_balance;
  IF NOT FOUND OR (p_tokens > 0 AND v_balance.tokens IS NULL) OR (p_cost_micros > 0 AND v_balance.cost_micros IS NULL) THEN
    PERFORM ops.raise_problem('conflict', 'There is no such limit to raise.', jsonb_build_object('scope', p_scope, 'period', p_period));
  END IF;
  PERFORM compliance.append(v_tenant, 'budget.topped_up', p_holder_id::text, jsonb_build_object(
    'scope', p_scope, 'period', p_period, 'starts_on', v_balance.starts_on, 'tokens', p_tokens, 'cost_micros', p_cost_micros));
  RETURN budget.balance_document(v_balance) || jsonb_build_object('scope', p_scope, 'holder_id', p_holder_id, 'period', p_period);
END
$$;

COMMENT ON FUNCTION budget.top_up(text, uuid, text, bigint, bigint) IS
  'Raises the running day''s or month''s limit, and no later one: budget.balance_document. Raises not_found, forbidden, conflict.';
GRANT EXECUTE ON FUNCTION budget.top_up(text, uuid, text, bigint, bigint) TO app;
