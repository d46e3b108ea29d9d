-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.raise_exceeded(p_balance budget.balances, p_tokens bigint, p_cost_micros bigint)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_status jsonb := budget.balance_document(p_balance);
  v_holder text := CASE p_balance.scope WHEN 'api_key' THEN 'API key' ELSE p_balance.scope END;
  v_in_tokens boolean := NOT budget.fits(p_balance, p_tokens, 0);
BEGIN
  PERFORM ops.raise_problem(
    'budget_exceeded',
    CASE WHEN v_in_tokens
      THEN format('The token budget of the %s for this %s is used up: %s tokens are needed and %s are left.',
                  v_holder, p_balance.period, p_tokens, v_status ->> 'remaining')
      ELSE format('The money budget of the %s for this %s is used up: %s millionths are needed and %s are left.',
                  v_holder, p_balance.period, p_cost_micros, v_status ->> 'cost_remaining') END,
    v_status || jsonb_build_object(
      'scope', p_balance.scope, 'holder_id', p_balance.holder_id, 'period', p_balance.period, 'starts_on', p_balance.starts_on,
      'unit', CASE WHEN v_in_tokens THEN 'tokens' ELSE 'cost' END, 'requested', CASE WHEN v_in_tokens THEN p_tokens ELSE p_cost_micros END));
END
$$;

COMMENT ON FUNCTION budget.raise_exceeded(budget.balances, bigint, bigint) IS 'Raises budget_exceeded for a balance that has no room for so many tokens or so much money. Internal.';
