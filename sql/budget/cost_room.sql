-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.cost_room()
RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT min(coalesce(b.cost_micros - b.cost_settled - b.cost_reserved, a.cost_micros - m.cost_settled - m.cost_reserved))
  FROM budget.applicable(core.current_tenant(), core.current_user_id(), nullif(current_setting('app.api_key_id', true), '')::uuid) AS a
  LEFT JOIN budget.balances AS b
    ON b.tenant_id = a.tenant_id AND b.scope = a.scope AND b.holder_id = a.holder_id AND b.period = a.period AND b.starts_on = a.starts_on
  LEFT JOIN LATERAL budget.moved(a.tenant_id, a.scope, a.holder_id, a.period, a.starts_on) AS m ON b.tenant_id IS NULL AND a.cost_micros IS NOT NULL
  WHERE coalesce(b.cost_micros, a.cost_micros) IS NOT NULL
$$;

COMMENT ON FUNCTION budget.cost_room() IS
  'The money, in millionths, that the tightest limit in money leaves for the current turn; NULL without such a limit. A hint for routing: budget.reserve decides.';
GRANT EXECUTE ON FUNCTION budget.cost_room() TO app, dba_readonly;
