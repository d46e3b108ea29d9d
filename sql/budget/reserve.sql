-- requires: 012_budget_metrics
-- The test and the booking of a balance are one UPDATE, so no interleaving passes the test twice, and the constraints within_limit
-- and within_cost hold even if this text is wrong. The tenant's month comes before its day, and both before its users' and keys': who
-- holds the first holds all that follow, and there is one lock order.
--
-- Rows stay locked until their transaction commits, and a commit waits for the disk. So that the turns of one tenant do not wait
-- for each other's disk, nothing comes after the first lock but the bookings, callers reserve last, and the functions commit without
-- waiting for the disk and wait afterwards, when the locks are gone (shared/database.py). That is early lock release: Johnson et
-- al., "Aether: a scalable approach to logging", VLDB 2010. The log is one sequence: whoever has waited for a later record has
-- waited for this one, and nobody is answered before.
CREATE OR REPLACE FUNCTION budget.reserve(
  p_turn_id uuid, p_prompt_tokens bigint, p_max_tokens bigint DEFAULT 0, p_model text DEFAULT NULL, p_lasts interval DEFAULT '2 hours'
)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.require_user();
  v_key uuid := core.current_api_key_id();
  v_tokens bigint := p_prompt_tokens + p_max_tokens;
  v_cost bigint;
  v_input numeric;
  v_output numeric;
  v_day date;
  v_month date;
  v_needed budget.balances[];
  v_next integer := 1;
  v_one budget.balances;
  v_missing budget.balances[];
BEGIN
  SELECT p.day, p.month INTO v_day, v_month FROM budget.periods(v_tenant) AS p;
  IF EXISTS (
    SELECT FROM budget.limits AS l
    WHERE l.tenant_id = v_tenant AND (l.scope, l.holder_id) IN (('tenant', v_tenant), ('user', v_user), ('api_key', v_key))
      AND l.paused_at IS NOT NULL
  ) THEN
    PERFORM budget.refuse_paused(ARRAY(SELECT a FROM budget.applicable(v_tenant, v_user, v_key) AS a));
  END IF;
  IF p_model IS NOT NULL THEN
    SELECT m.input_price, m.output_price INTO v_input, v_output FROM routing.models AS m WHERE m.name = p_model;
  END IF;
  v_cost := budget.cost(p_prompt_tokens, p_max_tokens, v_input, v_output);
  INSERT INTO budget.reservations (tenant_id, turn_id, user_id, api_key_id, model, input_price, output_price, day, month, tokens, cost_micros, expires_at)
  VALUES (v_tenant, p_turn_id, v_user, v_key, p_model, v_input, v_output, v_day, v_month, v_tokens, v_cost, clock_timestamp() + p_lasts);
  INSERT INTO budget.ledger (tenant_id, turn_id, user_id, api_key_id, model, entry, tokens, cost_micros, day, month)
  VALUES (v_tenant, p_turn_id, v_user, v_key, p_model, 'reserve', v_tokens, v_cost, v_day, v_month);

  -- Which balances; their limits matter only to those that are not there yet.
  v_needed := ARRAY[budget.balance_key(v_tenant, 'tenant', v_tenant, 'month', v_month), budget.balance_key(v_tenant, 'tenant', v_tenant, 'day', v_day)];
  WHILE v_next <= cardinality(v_needed) LOOP
    v_one := v_needed[v_next];
    LOOP
      UPDATE budget.balances AS b
      SET reserved = b.reserved + v_tokens, cost_reserved = b.cost_reserved + v_cost
      WHERE b.tenant_id = v_tenant AND b.scope = v_one.scope AND b.holder_id = v_one.holder_id
        AND b.period = v_one.period AND b.starts_on = v_one.starts_on AND budget.fits(b, v_tokens, v_cost);
      EXIT WHEN FOUND;
      -- It has no room, which raises; or it is the first of its period, and is made.
      PERFORM budget.raise_exceeded(v_one, v_tokens, v_cost);
      v_missing := ARRAY(
        SELECT a FROM budget.applicable(v_tenant, v_user, v_key) AS a WHERE a.scope = v_one.scope AND a.period = v_one.period);
      EXIT WHEN cardinality(v_missing) = 0;  -- a user's or key's limit was taken away meanwhile
      v_missing[1].starts_on := v_one.starts_on;
      PERFORM budget.open_balances(v_missing, p_turn_id);
    END LOOP;
    v_next := v_next + 1;
    IF v_next = 3 THEN
      -- The user's and the key's limits are read under the tenant's lock, without which none is set or taken away: a turn that
      -- missed one would be missing in a balance that another turn has made.
      v_needed := v_needed || ARRAY(
        SELECT budget.balance_key(v_tenant, l.scope, l.holder_id, l.period, CASE l.period WHEN 'day' THEN v_day ELSE v_month END)
        FROM budget.limits AS l
        WHERE l.tenant_id = v_tenant AND (l.scope, l.holder_id) IN (('user', v_user), ('api_key', v_key))
        ORDER BY l.scope DESC, l.period DESC);
    END IF;
  END LOOP;
  RETURN v_tokens;
END
$$;

COMMENT ON FUNCTION budget.reserve(uuid, bigint, bigint, text, interval) IS
  'Holds the prompt''s tokens and all that the model may generate, of every scope that binds the turn; returns them. Raises budget_exceeded or budget_paused with scope, period and reset. Internal.';
