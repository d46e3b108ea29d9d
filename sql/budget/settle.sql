-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.settle(p_turn_id uuid, p_prompt_tokens bigint, p_completion_tokens bigint DEFAULT 0)
RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT budget.close(
    p_turn_id, p_prompt_tokens + p_completion_tokens,
    coalesce((SELECT budget.cost(p_prompt_tokens, p_completion_tokens, r.input_price, r.output_price)
              FROM budget.reservations AS r WHERE r.tenant_id = core.require_tenant() AND r.turn_id = p_turn_id), 0),
    p_prompt_tokens, p_completion_tokens)
$$;

COMMENT ON FUNCTION budget.settle(uuid, bigint, bigint) IS
  'Ends a turn''s reservation and charges what was used, at the prices of its reservation. A second call changes nothing. Returns the tokens that were charged. Internal.';
