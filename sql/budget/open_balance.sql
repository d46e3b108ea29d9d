-- requires: 012_budget_metrics
-- A limit that is set in the middle of a period counts what was used and is held in it already: the ledger knows. Whoever
-- comes here holds the tenant's own balance, so that nothing moves meanwhile.
CREATE OR REPLACE FUNCTION budget.open_balance(p_scope text, p_holder_id uuid, p_period text, p_starts_on date, p_tokens bigint)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO budget.balances (tenant_id, scope, holder_id, period, starts_on, tokens, settled, reserved)
  SELECT core.require_tenant(), p_scope, p_holder_id, p_period, p_starts_on,
    greatest(p_tokens, moved.settled + moved.reserved), moved.settled, moved.reserved
  FROM (
    SELECT coalesce(sum(l.tokens) FILTER (WHERE l.entry = 'settle'), 0)::bigint AS settled,
      coalesce(sum(CASE l.entry WHEN 'reserve' THEN l.tokens WHEN 'release' THEN -l.tokens END), 0)::bigint AS reserved
    FROM budget.ledger AS l
    WHERE p_scope <> 'tenant' AND l.tenant_id = core.require_tenant()
      AND CASE p_scope WHEN 'user' THEN l.user_id ELSE l.api_key_id END = p_holder_id
      AND CASE p_period WHEN 'day' THEN l.day ELSE l.month END = p_starts_on
  ) AS moved
  WHERE NOT EXISTS (
    SELECT FROM budget.balances AS b
    WHERE b.tenant_id = core.require_tenant() AND b.scope = p_scope AND b.holder_id = p_holder_id
      AND b.period = p_period AND b.starts_on = p_starts_on)
  ON CONFLICT (tenant_id, scope, holder_id, period, starts_on) DO NOTHING
$$;

COMMENT ON FUNCTION budget.open_balance(text, uuid, text, date, bigint) IS
  'Makes the balance of a period unless there is one. One that was overdrawn before it had a limit is full. Internal.';
