-- requires: 012_budget_metrics
-- Works across tenants, like the sweepers. A turn that is on its way keeps what it holds; one that ended without settling, was
-- deleted, or whose process died before anything else of it was committed, gives it back.
CREATE OR REPLACE FUNCTION budget.expire(p_limit integer DEFAULT 1000)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant text := current_setting('app.tenant_id', true);
  v_held record;
  v_count integer := 0;
BEGIN
  FOR v_held IN
    SELECT due.tenant_id, due.turn_id
    FROM (
      SELECT r.tenant_id, r.turn_id
      FROM budget.reservations AS r
      WHERE r.closed_at IS NULL AND r.expires_at < clock_timestamp()
        AND NOT EXISTS (
          SELECT FROM inference.jobs AS j
          WHERE j.tenant_id = r.tenant_id AND j.turn_id = r.turn_id AND j.status IN ('queued', 'running'))
      ORDER BY r.expires_at
      LIMIT p_limit
      FOR UPDATE SKIP LOCKED
    ) AS due
    ORDER BY due.tenant_id
  LOOP
    PERFORM set_config('app.tenant_id', v_held.tenant_id::text, true);
    PERFORM budget.release(v_held.turn_id);
    v_count := v_count + 1;
  END LOOP;
  PERFORM set_config('app.tenant_id', coalesce(v_tenant, ''), true);
  RETURN v_count;
END
$$;

COMMENT ON FUNCTION budget.expire(integer) IS
  'Gives back what reservations of all tenants hold whose time is over and whose turn nobody generates; returns how many. Safe to run twice or side by side.';
GRANT EXECUTE ON FUNCTION budget.expire(integer) TO app;
