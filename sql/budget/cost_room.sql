-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.cost_room()
RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT min(p.cost_micros - p.cost_settled - p.cost_reserved)
  FROM budget.present(ARRAY(
    SELECT a FROM budget.applicable(core.current_tenant(), core.current_user_id(), core.current_api_key_id()) AS a
    WHERE a.cost_micros IS NOT NULL)) AS p
$$;

COMMENT ON FUNCTION budget.cost_room() IS
  'The money, in millionths, that the tightest limit in money leaves for the current turn; NULL without such a limit. A hint for routing: budget.reserve decides.';
GRANT EXECUTE ON FUNCTION budget.cost_room() TO app, dba_readonly;
