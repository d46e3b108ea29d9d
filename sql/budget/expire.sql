-- requires: 012_budget_metrics
-- Works across tenants, like the sweepers. A turn that is on its way keeps what it holds; one that ended without settling, was
-- deleted, or whose process died before anything else of it was committed, gives it back.
CREATE OR REPLACE FUNCTION budget.expire(p_limit integer DEFAULT 1000)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_again constant interval := '1 hour';
  v_tenant text := current_setting('app.tenant_id', true);
  v_held record;
  v_count integer := 0;
  v_failed integer := 0;
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
    BEGIN
      PERFORM set_config('app.tenant_id', v_held.tenant_id::text, true);
      PERFORM budget.release(v_held.turn_id);
      v_count := v_count + 1;
    EXCEPTION WHEN OTHERS THEN
      -- It stops no other, and is not at the head of the next run.
      v_failed := v_failed + 1;
      UPDATE budget.reservations AS r SET expires_at = clock_timestamp() + c_again
      WHERE r.tenant_id = v_held.tenant_id AND r.turn_id = v_held.turn_id;
    END;
  END LOOP;
  PERFORM set_config('app.tenant_id', coalesce(v_tenant, ''), true);
  RETURN jsonb_build_object('count', v_count, 'failed', v_failed);
END
$$;

COMMENT ON FUNCTION budget.expire(integer) IS
  'Gives back what reservations of all tenants hold whose time is over and whose turn nobody generates; returns {count, failed}. Safe to run twice or side by side.';
GRANT EXECUTE ON FUNCTION budget.expire(integer) TO app;
