-- requires: 012_budget_metrics
-- Works across tenants, one job after the other: it acts for each job's own tenant while it ends that job. A job that
-- cannot be ended is reported and left, so that it stops no other. Tenants come in one order, because ending a job locks
-- its tenant's balances: two sweeps side by side wait for each other, and do not deadlock.
CREATE OR REPLACE FUNCTION inference.sweep()
RETURNS TABLE (tenant_id uuid, turn_id uuid, outcome text, code text, turn jsonb)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_waiting constant interval := '1 minute';
  c_expiry constant interval := '1 hour';
  c_batch constant integer := 100;
  v_job inference.jobs;
  v_tenant text := current_setting('app.tenant_id', true);
BEGIN
  FOR v_job IN
    SELECT stuck.*
    FROM (
      SELECT j.*
      FROM inference.jobs AS j
      WHERE (j.status = 'running' AND j.leased_until < clock_timestamp())
        OR (j.status = 'queued' AND j.emitted_at < clock_timestamp() - c_waiting)
      ORDER BY coalesce(j.leased_until, j.emitted_at)
      LIMIT c_batch
      FOR UPDATE SKIP LOCKED
    ) AS stuck
    ORDER BY stuck.tenant_id, stuck.emitted_at
  LOOP
    tenant_id := v_job.tenant_id;
    turn_id := v_job.turn_id;
    code := NULL;
    turn := NULL;
    IF v_job.attempts < v_job.max_attempts AND v_job.created_at > clock_timestamp() - c_expiry THEN
      UPDATE inference.jobs AS j
      SET status = 'queued', leased_by = NULL, leased_until = NULL, emitted_at = clock_timestamp(),
          history = inference.attempt_ended(j.history, 'lost', j.leased_until)
      WHERE j.tenant_id = v_job.tenant_id AND j.id = v_job.id;
      outcome := 'emitted';
    ELSE
      BEGIN
        PERFORM set_config('app.tenant_id', v_job.tenant_id::text, true);
        IF EXISTS (
          SELECT FROM chat.turns AS t
          WHERE t.tenant_id = v_job.tenant_id AND t.id = v_job.turn_id AND t.stop_requested_at IS NOT NULL
        ) THEN
          PERFORM chat.end_unanswered(v_job.turn_id);
          outcome := 'stopped';
        ELSE
          code := CASE WHEN v_job.attempts >= v_job.max_attempts THEN 'attempts_exhausted' ELSE 'expired' END;
          PERFORM inference.give_up(v_job.id, code);
          outcome := 'failed';
        END IF;
        turn := chat.turn_result(v_job.turn_id);
      EXCEPTION WHEN OTHERS THEN
        outcome := 'error';
        code := SQLSTATE;
        -- Not to the head of the next sweep; without emitting it: no worker may take it again.
        UPDATE inference.jobs AS j
        SET status = 'running', leased_by = 'sweeper', leased_until = clock_timestamp() + c_waiting
        WHERE j.tenant_id = v_job.tenant_id AND j.id = v_job.id;
      END;
    END IF;
    RETURN NEXT;
  END LOOP;
  PERFORM set_config('app.tenant_id', coalesce(v_tenant, ''), true);
END
$$;

COMMENT ON FUNCTION inference.sweep() IS
  'Emits jobs of all tenants again that nobody holds; fails those out of attempts or an hour old. One row a job: emitted; failed or stopped, with chat.turn_result; error with SQLSTATE.';
GRANT EXECUTE ON FUNCTION inference.sweep() TO app;
