-- requires: 012_budget_metrics
-- The test and the booking of a balance are one UPDATE, so no interleaving passes the test twice, and the constraints within_limit
-- and within_cost hold even if this text is wrong.
CREATE OR REPLACE FUNCTION budget.book_in(
  p_scope text, p_holder_id uuid, p_period text, p_starts_on date, p_turns uuid[], p_tokens bigint, p_cost_micros bigint
)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_missing budget.balances[];
BEGIN
  LOOP
    UPDATE budget.balances AS b
    SET reserved = b.reserved + p_tokens, cost_reserved = b.cost_reserved + p_cost_micros
    WHERE b.tenant_id = v_tenant AND b.scope = p_scope AND b.holder_id = p_holder_id AND b.period = p_period AND b.starts_on = p_starts_on
      AND budget.fits(b, p_tokens, p_cost_micros);
    EXIT WHEN FOUND;
    -- It has no room, which raises; or it is the first of its period, and is made. Its limit matters only then.
    PERFORM budget.raise_exceeded(budget.balance_key(v_tenant, p_scope, p_holder_id, p_period, p_starts_on), p_tokens, p_cost_micros);
    v_missing := ARRAY(
      SELECT a FROM budget.applicable(v_tenant, core.current_user_id(), core.current_api_key_id()) AS a
      WHERE a.scope = p_scope AND a.period = p_period);
    EXIT WHEN cardinality(v_missing) = 0;  -- a user's or key's limit was taken away meanwhile
    v_missing[1].starts_on := p_starts_on;
    PERFORM budget.open_balances(v_missing, p_turns);
  END LOOP;
END
$$;

COMMENT ON FUNCTION budget.book_in(text, uuid, text, date, uuid[], bigint, bigint) IS
  'Books in one balance of the current tenant what some turns reserve, whose entries stand in the ledger; makes it if it is not there. Raises budget_exceeded. Internal to budget.book.';
