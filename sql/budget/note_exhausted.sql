-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.note_exhausted(p_scope text, p_holder_id uuid, p_period text, p_starts_on date)
RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  UPDATE budget.balances AS b SET reached = 100
  WHERE b.tenant_id = core.require_tenant() AND b.scope = p_scope AND b.holder_id = p_holder_id
    AND b.period = p_period AND b.starts_on = p_starts_on AND b.reached < 100
$$;

COMMENT ON FUNCTION budget.note_exhausted(text, uuid, text, date) IS
  'A turn found no room in a balance: that counts as 100 percent, once a period. Called after a refusal, whose own transaction leaves nothing.';
GRANT EXECUTE ON FUNCTION budget.note_exhausted(text, uuid, text, date) TO app;
