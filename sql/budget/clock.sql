-- requires: 012_budget_metrics
-- Plain, like the others that every turn calls: a SET clause costs more than they do, and stops inlining. All names are qualified.
CREATE OR REPLACE FUNCTION budget.clock()
RETURNS timestamptz
LANGUAGE sql STABLE
AS $$
  SELECT CASE WHEN core.is_operator() THEN coalesce(nullif(current_setting('budget.clock', true), '')::timestamptz, now()) ELSE now() END
$$;

COMMENT ON FUNCTION budget.clock() IS
  'The time by which periods begin: now(). An operator may set budget.clock in the session to see what another time would do; the functions'' role cannot.';
