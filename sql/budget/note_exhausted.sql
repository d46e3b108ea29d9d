-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.note_exhausted(p_scope text, p_holder_id uuid, p_period text, p_starts_on date)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_needed budget.balances[] := ARRAY(
    SELECT a FROM budget.applicable(v_tenant, core.current_user_id(), nullif(current_setting('app.api_key_id', true), '')::uuid) AS a);
BEGIN
  -- The refused transaction may have been the first of the period, and has taken its balances back.
  PERFORM budget.open_balances(v_needed[1:2]);
  PERFORM budget.lock_tenant(v_tenant, v_needed[1].starts_on, v_needed[2].starts_on);
  PERFORM budget.open_balances(v_needed[3:]);
  UPDATE budget.balances AS b SET reached = 100
  WHERE b.tenant_id = v_tenant AND b.scope = p_scope AND b.holder_id = p_holder_id
    AND b.period = p_period AND b.starts_on = p_starts_on AND b.reached < 100;
END
$$;

COMMENT ON FUNCTION budget.note_exhausted(text, uuid, text, date) IS
  'A turn found no room in a balance: that counts as 100 percent, once a period. Called after a refusal, whose own transaction leaves nothing.';
GRANT EXECUTE ON FUNCTION budget.note_exhausted(text, uuid, text, date) TO app;
