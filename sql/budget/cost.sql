-- requires: 012_budget_metrics
-- A price is for a million tokens, a cost in millionths: the two cancel out. Rounded up, so that many small turns are not free.
CREATE OR REPLACE FUNCTION budget.cost(p_prompt_tokens bigint, p_completion_tokens bigint, p_input_price numeric, p_output_price numeric)
RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ceil(p_prompt_tokens * coalesce(p_input_price, 0) + p_completion_tokens * coalesce(p_output_price, 0))::bigint;

COMMENT ON FUNCTION budget.cost(bigint, bigint, numeric, numeric) IS
  'Cost in millionths of the currency, of tokens at prices for a million of them; a price that is not known counts as none.';
GRANT EXECUTE ON FUNCTION budget.cost(bigint, bigint, numeric, numeric) TO app, dba_readonly;
