-- requires: 012_budget_metrics
-- Alone in its transaction: a partition is attached when nobody reads the ledger, and a backup reads it for long.
CREATE OR REPLACE FUNCTION ops.make_partitions()
RETURNS integer
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $$
  SELECT count(*)::integer FROM budget.maintain()
$$;

COMMENT ON FUNCTION ops.make_partitions() IS
  'Daily: the ledger''s partitions of the months to come. Returns how many were made; raises lock_not_available while somebody reads the ledger for long: try again.';
GRANT EXECUTE ON FUNCTION ops.make_partitions() TO app;
