-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.fits(p_balance budget.balances, p_tokens bigint, p_cost_micros bigint)
RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
  SELECT (p_balance.tokens IS NULL OR p_balance.settled + p_balance.reserved + p_tokens <= p_balance.tokens)
    AND (p_balance.cost_micros IS NULL OR p_balance.cost_settled + p_balance.cost_reserved + p_cost_micros <= p_balance.cost_micros)
$$;

COMMENT ON FUNCTION budget.fits(budget.balances, bigint, bigint) IS 'Whether a balance has room for so many tokens and so much money. Internal.';
