-- requires: 012_budget_metrics
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
BEGIN
  SELECT p.day, p.month INTO v_day, v_month FROM budget.periods(v_tenant) AS p;
  IF budget.is_paused() THEN
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
  PERFORM budget.book(ARRAY[p_turn_id], v_day, v_month, v_tokens, v_cost);
  RETURN v_tokens;
END
$$;

COMMENT ON FUNCTION budget.reserve(uuid, bigint, bigint, text, interval) IS
  'Holds the prompt''s tokens and all that the model may generate, of every scope that binds the turn; returns them. Raises budget_exceeded or budget_paused with scope, period and reset. Internal.';
