-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.charge(p_ended budget.reservations)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
  UPDATE budget.balances AS b
  SET reserved = b.reserved - p_ended.tokens, settled = b.settled + p_ended.settled,
      -- A limit that was lowered below what was held comes down as that ends.
      tokens = CASE WHEN b.tokens > b.target_tokens
        THEN greatest(b.target_tokens, b.settled + p_ended.settled + b.reserved - p_ended.tokens) ELSE b.tokens END,
      cost_micros = CASE WHEN b.cost_micros > b.target_cost
        THEN greatest(b.target_cost, b.cost_settled + p_ended.cost_settled + b.cost_reserved - p_ended.cost_micros) ELSE b.cost_micros END,
      cost_reserved = b.cost_reserved - p_ended.cost_micros, cost_settled = b.cost_settled + p_ended.cost_settled,
      reached = greatest(b.reached, budget.share_reached(b.settled + p_ended.settled, b.target_tokens),
                         budget.share_reached(b.cost_settled + p_ended.cost_settled, b.target_cost))
  WHERE b.tenant_id = p_ended.tenant_id AND budget.concerns(b, p_ended);
END
$$;

COMMENT ON FUNCTION budget.charge(budget.reservations) IS
  'Gives back what a reservation that has ended held, or the sum of several of one user, key, day and month, and charges what it settled, '
  'in each balance that it counts in. Internal: under the tenant''s lock.';
