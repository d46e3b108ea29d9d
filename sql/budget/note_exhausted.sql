-- requires: 012_budget_metrics
-- One turn that is larger than a whole budget does not use it up: what counts is that little was left.
CREATE OR REPLACE FUNCTION budget.note_exhausted(p_scope text, p_holder_id uuid, p_period text, p_starts_on date)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  -- The refused transaction may have been the first of the period, and has taken its balances back.
  PERFORM budget.lock_running(v_tenant);
  PERFORM budget.open_balances(ARRAY(
    SELECT a FROM budget.applicable(v_tenant, core.current_user_id(), core.current_api_key_id()) AS a WHERE a.scope <> 'tenant'));
  UPDATE budget.balances AS b SET reached = 100
  WHERE b.tenant_id = v_tenant AND b.scope = p_scope AND b.holder_id = p_holder_id
    AND b.period = p_period AND b.starts_on = p_starts_on AND b.reached < 100
    AND (budget.share_reached(b.settled + b.reserved, b.tokens) > 0 OR budget.share_reached(b.cost_settled + b.cost_reserved, b.cost_micros) > 0);
END
$$;

COMMENT ON FUNCTION budget.note_exhausted(text, uuid, text, date) IS
  'A turn found no room in a balance of which 80 percent are used or held: that counts as 100 percent, once a period. Called after a refusal, whose own transaction leaves nothing.';
GRANT EXECUTE ON FUNCTION budget.note_exhausted(text, uuid, text, date) TO app;
