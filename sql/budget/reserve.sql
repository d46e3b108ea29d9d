-- requires: 012_budget_metrics
-- The tenant's two rows are the lock: whoever reserves or settles for a tenant takes them first, the day before the month, and
-- under them all scopes are tested and booked. So no interleaving passes the test twice, and there is one lock order. The
-- constraints within_limit and within_cost hold even if this text is wrong.
--
-- Rows stay locked until their transaction commits, and a commit waits for the disk. So that the turns of one tenant do not wait
-- for each other's disk, nothing comes after the lock but the booking, callers reserve last, and the functions commit without
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
  v_key uuid := nullif(current_setting('app.api_key_id', true), '')::uuid;
  v_tokens bigint := p_prompt_tokens + p_max_tokens;
  v_cost bigint;
  v_input numeric;
  v_output numeric;
  v_needed budget.balances[] := ARRAY(SELECT a FROM budget.applicable(v_tenant, v_user, v_key) AS a);
  v_day date := v_needed[1].starts_on;
  v_month date := v_needed[2].starts_on;
  v_full budget.balances;
BEGIN
  PERFORM budget.refuse_paused(v_needed);
  SELECT m.input_price, m.output_price INTO v_input, v_output FROM routing.models AS m WHERE m.name = p_model;
  v_cost := budget.cost(p_prompt_tokens, p_max_tokens, v_input, v_output);
  INSERT INTO budget.reservations (tenant_id, turn_id, user_id, api_key_id, model, input_price, output_price, day, month, tokens, cost_micros, expires_at)
  VALUES (v_tenant, p_turn_id, v_user, v_key, p_model, v_input, v_output, v_day, v_month, v_tokens, v_cost, clock_timestamp() + p_lasts);
  INSERT INTO budget.ledger (tenant_id, turn_id, user_id, api_key_id, model, entry, tokens, cost_micros, day, month)
  VALUES (v_tenant, p_turn_id, v_user, v_key, p_model, 'reserve', v_tokens, v_cost, v_day, v_month);

  IF budget.lock_tenant(v_tenant, v_day, v_month) < 2 THEN
    PERFORM budget.open_balances(v_needed[1:2], p_turn_id);
    PERFORM budget.lock_tenant(v_tenant, v_day, v_month);
  END IF;
  IF cardinality(v_needed) > 2 THEN
    PERFORM budget.open_balances(v_needed[3:], p_turn_id);
  END IF;
  -- The narrowest scope that is full says most; the month before the day, because it lasts longer.
  SELECT b.* INTO v_full
  FROM unnest(v_needed) WITH ORDINALITY AS n
  JOIN budget.balances AS b
    ON b.tenant_id = n.tenant_id AND b.scope = n.scope AND b.holder_id = n.holder_id AND b.period = n.period AND b.starts_on = n.starts_on
  WHERE NOT budget.fits(b, v_tokens, v_cost)
  ORDER BY n.ordinality DESC
  LIMIT 1;
  IF FOUND THEN
    PERFORM budget.raise_exceeded(v_full, v_tokens, v_cost);
  END IF;
  UPDATE budget.balances AS b
  SET reserved = b.reserved + v_tokens, cost_reserved = b.cost_reserved + v_cost
  FROM unnest(v_needed) AS n
  WHERE b.tenant_id = n.tenant_id AND b.scope = n.scope AND b.holder_id = n.holder_id AND b.period = n.period AND b.starts_on = n.starts_on;
  RETURN v_tokens;
END
$$;

COMMENT ON FUNCTION budget.reserve(uuid, bigint, bigint, text, interval) IS
  'Holds the prompt''s tokens and all that the model may generate, of every scope that binds the turn; returns them. Raises budget_exceeded or budget_paused with scope, period and reset. Internal.';
