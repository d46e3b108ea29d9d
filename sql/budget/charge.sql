-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.charge(p_held budget.reservations, p_tokens bigint, p_cost_micros bigint)
RETURNS void
LANGUAGE sql
AS $$
  UPDATE budget.balances AS b
  SET reserved = b.reserved - p_held.tokens, settled = b.settled + p_tokens,
      -- A limit that was lowered below what was held comes down as that ends.
      tokens = CASE WHEN b.tokens > b.target_tokens
        THEN greatest(b.target_tokens, b.settled + p_tokens + b.reserved - p_held.tokens) ELSE b.tokens END,
      cost_micros = CASE WHEN b.cost_micros > b.target_cost
        THEN greatest(b.target_cost, b.cost_settled + p_cost_micros + b.cost_reserved - p_held.cost_micros) ELSE b.cost_micros END,
      cost_reserved = b.cost_reserved - p_held.cost_micros, cost_settled = b.cost_settled + p_cost_micros,
      reached = greatest(b.reached, budget.share_reached(b.settled + p_tokens, b.target_tokens),
                         budget.share_reached(b.cost_settled + p_cost_micros, b.target_cost))
  WHERE b.tenant_id = p_held.tenant_id AND budget.concerns(b, p_held)
$$;

COMMENT ON FUNCTION budget.charge(budget.reservations, bigint, bigint) IS
  'Gives back what a reservation holds, or the sum of several of one user, key, day and month, and charges what was used, in each balance that it counts in. Internal: under the tenant''s lock.';
