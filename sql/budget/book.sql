-- requires: 012_budget_metrics
-- The test and the booking of a balance are one UPDATE, so no interleaving passes the test twice, and the constraints within_limit
-- and within_cost hold even if this text is wrong. The tenant's month comes before its day, and both before its users' and keys': who
-- holds the first holds all that follow, and there is one lock order.
CREATE OR REPLACE FUNCTION budget.book(p_turns uuid[], p_day date, p_month date, p_tokens bigint, p_cost_micros bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.require_user();
  v_key uuid := core.current_api_key_id();
  v_needed budget.balances[] := ARRAY[
    budget.balance_key(v_tenant, 'tenant', v_tenant, 'month', p_month), budget.balance_key(v_tenant, 'tenant', v_tenant, 'day', p_day)];
  v_next integer := 1;
  v_one budget.balances;
  v_missing budget.balances[];
BEGIN
  -- Which balances; their limits matter only to those that are not there yet.
  WHILE v_next <= cardinality(v_needed) LOOP
    v_one := v_needed[v_next];
    LOOP
      UPDATE budget.balances AS b
      SET reserved = b.reserved + p_tokens, cost_reserved = b.cost_reserved + p_cost_micros
      WHERE b.tenant_id = v_tenant AND b.scope = v_one.scope AND b.holder_id = v_one.holder_id
        AND b.period = v_one.period AND b.starts_on = v_one.starts_on AND budget.fits(b, p_tokens, p_cost_micros);
      EXIT WHEN FOUND;
      -- It has no room, which raises; or it is the first of its period, and is made.
      PERFORM budget.raise_exceeded(v_one, p_tokens, p_cost_micros);
      v_missing := ARRAY(
        SELECT a FROM budget.applicable(v_tenant, v_user, v_key) AS a WHERE a.scope = v_one.scope AND a.period = v_one.period);
      EXIT WHEN cardinality(v_missing) = 0;  -- a user's or key's limit was taken away meanwhile
      v_missing[1].starts_on := v_one.starts_on;
      PERFORM budget.open_balances(v_missing, p_turns);
    END LOOP;
    v_next := v_next + 1;
    IF v_next = 3 THEN
      -- The user's and the key's limits are read under the tenant's lock, without which none is set or taken away: a turn that
      -- missed one would be missing in a balance that another turn has made.
      v_needed := v_needed || ARRAY(
        SELECT budget.balance_key(v_tenant, l.scope, l.holder_id, l.period, CASE l.period WHEN 'day' THEN p_day ELSE p_month END)
        FROM budget.limits AS l
        WHERE l.tenant_id = v_tenant AND (l.scope, l.holder_id) IN (('user', v_user), ('api_key', v_key))
        ORDER BY l.scope DESC, l.period DESC);
    END IF;
  END LOOP;
END
$$;

COMMENT ON FUNCTION budget.book(uuid[], date, date, bigint, bigint) IS
  'Books what some turns of the current user reserve, whose entries stand in the ledger, in every balance that binds them. Raises budget_exceeded. Internal.';
