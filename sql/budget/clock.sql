-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.clock()
RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN core.is_operator() THEN coalesce(nullif(current_setting('budget.clock', true), '')::timestamptz, now()) ELSE now() END
$$;

COMMENT ON FUNCTION budget.clock() IS
  'The time by which periods begin: now(). An operator may set budget.clock in the session to see what another time would do; the functions'' role cannot.';
