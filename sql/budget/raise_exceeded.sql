-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.raise_exceeded(p_which budget.balances, p_tokens bigint, p_cost_micros bigint)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_balance budget.balances;
  v_status jsonb;
  v_holder text := CASE p_which.scope WHEN 'api_key' THEN 'API key' ELSE p_which.scope END;
  v_in_tokens boolean;
  v_hint text;
BEGIN
  SELECT * INTO v_balance
  FROM budget.balances AS b
  WHERE b.tenant_id = p_which.tenant_id AND b.scope = p_which.scope AND b.holder_id = p_which.holder_id
    AND b.period = p_which.period AND b.starts_on = p_which.starts_on;
  IF NOT FOUND OR budget.fits(v_balance, p_tokens, p_cost_micros) THEN
    RETURN;
  END IF;
  v_status := budget.balance_document(v_balance);
  v_in_tokens := NOT budget.fits(v_balance, p_tokens, 0);
  v_hint := CASE WHEN CASE WHEN v_in_tokens THEN p_tokens <= v_balance.tokens ELSE p_cost_micros <= v_balance.cost_micros END
    THEN format('Ask for less (max_tokens), wait for the next %s, or have the budget raised.', p_which.period)
    ELSE format('No %s''s budget would hold it: ask for less (max_tokens), or have it raised.', p_which.period) END;
  PERFORM ops.raise_problem(
    'budget_exceeded',
    CASE WHEN v_in_tokens
      THEN format('The token budget of the %s for this %s does not hold the request: %s tokens are needed and %s are left. %s',
                  v_holder, p_which.period, p_tokens, v_status ->> 'remaining', v_hint)
      ELSE format('The money budget of the %s for this %s does not hold the request: %s millionths are needed and %s are left. %s',
                  v_holder, p_which.period, p_cost_micros, v_status ->> 'cost_remaining', v_hint) END,
    v_status || jsonb_build_object(
      'scope', p_which.scope, 'holder_id', p_which.holder_id, 'period', p_which.period, 'starts_on', p_which.starts_on,
      'unit', CASE WHEN v_in_tokens THEN 'tokens' ELSE 'cost' END, 'requested', CASE WHEN v_in_tokens THEN p_tokens ELSE p_cost_micros END));
END
$$;

COMMENT ON FUNCTION budget.raise_exceeded(budget.balances, bigint, bigint) IS
  'Raises budget_exceeded if there is such a balance and it has no room for so many tokens or so much money. Internal.';
