-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.lock_tenant(p_tenant_id uuid, p_day date, p_month date)
RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
  v_rows integer;
BEGIN
  PERFORM FROM budget.balances AS b
  WHERE b.tenant_id = p_tenant_id AND b.scope = 'tenant' AND b.holder_id = p_tenant_id
    AND (b.period, b.starts_on) IN (('day', p_day), ('month', p_month))
  ORDER BY b.period DESC
  FOR UPDATE;
  GET DIAGNOSTICS v_rows = ROW_COUNT;
  RETURN v_rows;
END
$$;

COMMENT ON FUNCTION budget.lock_tenant(uuid, date, date) IS
  'Locks the tenant''s month before its day: the lock under which all its balances move. Who ends turns of several days meets everybody there. Returns how many of the two there are. Internal.';
