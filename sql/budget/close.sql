-- requires: 012_budget_metrics
-- What is charged can exceed what was held only when a model server reports more than it was held to. Then only what still fits is
-- charged, and the rest is recorded as overrun.
CREATE OR REPLACE FUNCTION budget.close(p_turn_id uuid, p_prompt_tokens bigint, p_completion_tokens bigint, p_all_held boolean DEFAULT false)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_held budget.reservations;
  v_used bigint := p_prompt_tokens + p_completion_tokens;
  v_used_cost bigint;
  v_tokens bigint;
  v_cost bigint;
BEGIN
  SELECT * INTO v_held FROM budget.reservations AS r WHERE r.tenant_id = v_tenant AND r.turn_id = p_turn_id FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'The turn holds no reservation.', jsonb_build_object('turn_id', p_turn_id));
  ELSIF v_held.closed_at IS NOT NULL THEN
    RETURN v_held.settled;
  END IF;
  IF p_all_held THEN
    v_used := v_held.tokens;
    v_used_cost := v_held.cost_micros;
  ELSE
    v_used_cost := budget.cost(p_prompt_tokens, p_completion_tokens, v_held.input_price, v_held.output_price);
  END IF;
  v_tokens := v_used;
  v_cost := v_used_cost;
  IF v_used > v_held.tokens OR v_used_cost > v_held.cost_micros THEN
    PERFORM budget.lock_tenant(v_tenant, v_held.day, v_held.month);
    SELECT least(v_used, min(b.tokens - b.settled - b.reserved) + v_held.tokens),
      least(v_used_cost, min(b.cost_micros - b.cost_settled - b.cost_reserved) + v_held.cost_micros)
    INTO v_tokens, v_cost
    FROM budget.balances AS b
    WHERE b.tenant_id = v_tenant AND budget.concerns(b, v_held);
  END IF;

  UPDATE budget.reservations AS r
  SET settled = v_tokens, cost_settled = v_cost, closed_at = clock_timestamp()
  WHERE r.tenant_id = v_tenant AND r.turn_id = p_turn_id
  RETURNING r.* INTO v_held;
  INSERT INTO budget.ledger
    (tenant_id, turn_id, user_id, api_key_id, model, entry, tokens, cost_micros, prompt_tokens, completion_tokens, day, month)
  SELECT v_tenant, p_turn_id, v_held.user_id, v_held.api_key_id, v_held.model, e.entry, e.tokens, e.cost,
    CASE e.entry WHEN 'settle' THEN p_prompt_tokens END, CASE e.entry WHEN 'settle' THEN p_completion_tokens END, v_held.day, v_held.month
  FROM (VALUES ('release', v_held.tokens, v_held.cost_micros), ('settle', v_tokens, v_cost),
               ('overrun', v_used - v_tokens, v_used_cost - v_cost)) AS e (entry, tokens, cost)
  WHERE e.tokens > 0 OR e.cost > 0;

  PERFORM budget.lock_tenant(v_tenant, v_held.day, v_held.month);
  PERFORM budget.charge(v_held);
  RETURN v_tokens;
END
$$;

COMMENT ON FUNCTION budget.close(uuid, bigint, bigint, boolean) IS
  'Ends a turn''s reservation and charges what was used, at its prices, or all that it held; a second call changes nothing. Returns what was charged. Internal: a reservation ends nowhere else.';
