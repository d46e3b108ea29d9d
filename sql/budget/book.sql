-- requires: 012_budget_metrics
-- The tenant's month comes before its day, and both before its users' and keys': who holds the first holds all that follow, and there
-- is one lock order. As a rule the tenant's balances are there and have room; budget.book_in does the same, and what else there is to do.
CREATE OR REPLACE FUNCTION budget.book(p_turns uuid[], p_day date, p_month date, p_tokens bigint, p_cost_micros bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_limit record;
BEGIN
  UPDATE budget.balances AS b
  SET reserved = b.reserved + p_tokens, cost_reserved = b.cost_reserved + p_cost_micros
  WHERE b.tenant_id = v_tenant AND b.scope = 'tenant' AND b.holder_id = v_tenant AND b.period = 'month' AND b.starts_on = p_month
    AND budget.fits(b, p_tokens, p_cost_micros);
  IF NOT FOUND THEN
    PERFORM budget.book_in('tenant', v_tenant, 'month', p_month, p_turns, p_tokens, p_cost_micros);
  END IF;
  UPDATE budget.balances AS b
  SET reserved = b.reserved + p_tokens, cost_reserved = b.cost_reserved + p_cost_micros
  WHERE b.tenant_id = v_tenant AND b.scope = 'tenant' AND b.holder_id = v_tenant AND b.period = 'day' AND b.starts_on = p_day
    AND budget.fits(b, p_tokens, p_cost_micros);
  IF NOT FOUND THEN
    PERFORM budget.book_in('tenant', v_tenant, 'day', p_day, p_turns, p_tokens, p_cost_micros);
  END IF;
  -- The user's and the key's limits are read under the tenant's lock, without which none is set or taken away: a turn that
  -- missed one would be missing in a balance that another turn has made.
  FOR v_limit IN
    SELECT l.scope, l.holder_id, l.period, CASE l.period WHEN 'day' THEN p_day ELSE p_month END AS starts_on
    FROM budget.limits AS l
    WHERE l.tenant_id = v_tenant AND (l.scope, l.holder_id) IN (('user', core.require_user()), ('api_key', core.current_api_key_id()))
    ORDER BY l.scope DESC, l.period DESC
  LOOP
    PERFORM budget.book_in(v_limit.scope, v_limit.holder_id, v_limit.period, v_limit.starts_on, p_turns, p_tokens, p_cost_micros);
  END LOOP;
END
$$;

COMMENT ON FUNCTION budget.book(uuid[], date, date, bigint, bigint) IS
  'Books what some turns of the current user reserve, whose entries stand in the ledger, in every balance that binds them. Raises budget_exceeded. Internal.';
