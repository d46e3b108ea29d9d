-- requires: 012_budget_metrics
-- What is there is locked before what is missing is made: the month before the day also here.
CREATE OR REPLACE FUNCTION budget.lock_running(p_tenant_id uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_running budget.balances[] := ARRAY(SELECT a FROM budget.applicable(p_tenant_id, NULL, NULL) AS a);
BEGIN
  IF budget.lock_tenant(p_tenant_id, v_running[2].starts_on, v_running[1].starts_on) < 2 THEN
    PERFORM budget.open_balances(v_running);
    PERFORM budget.lock_tenant(p_tenant_id, v_running[2].starts_on, v_running[1].starts_on);
  END IF;
END
$$;

COMMENT ON FUNCTION budget.lock_running(uuid) IS 'Locks the tenant''s running month and day, and makes them where they are not there yet. Internal.';
