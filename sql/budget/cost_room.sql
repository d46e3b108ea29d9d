-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.cost_room()
RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Most tenants have no limit in money: that is seen at once.
  IF NOT EXISTS (SELECT FROM budget.limits AS l WHERE l.tenant_id = core.current_tenant() AND l.cost_micros IS NOT NULL) THEN
    RETURN NULL;
  END IF;
  RETURN (
    SELECT min(p.cost_micros - p.cost_settled - p.cost_reserved)
    FROM budget.present(ARRAY(
      SELECT a FROM budget.applicable(core.current_tenant(), core.current_user_id(), core.current_api_key_id()) AS a
      WHERE a.cost_micros IS NOT NULL)) AS p);
END
$$;

COMMENT ON FUNCTION budget.cost_room() IS
  'The money, in millionths, that the tightest limit in money leaves for the current turn; NULL without such a limit. A hint for routing: budget.reserve decides.';
GRANT EXECUTE ON FUNCTION budget.cost_room() TO app, dba_readonly;
