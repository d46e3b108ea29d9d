-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.settle(p_turn_id uuid, p_prompt_tokens bigint, p_completion_tokens bigint DEFAULT 0)
RETURNS bigint
LANGUAGE sql
AS $$
  SELECT budget.close(p_turn_id, p_prompt_tokens, p_completion_tokens)
$$;

COMMENT ON FUNCTION budget.settle(uuid, bigint, bigint) IS
  'Ends a turn''s reservation and charges what was used, at the prices of its reservation. A second call changes nothing. Returns the tokens that were charged. Internal.';
