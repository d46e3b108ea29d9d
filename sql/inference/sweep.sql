-- requires: 012_budget_metrics
-- Works across tenants, one job after the other: it acts for each job's own tenant while it ends that job.
CREATE OR REPLACE FUNCTION inference.sweep(
  p_waiting interval DEFAULT '1 minute', p_expiry interval DEFAULT '1 hour', p_limit integer DEFAULT 100
)
RETURNS TABLE (tenant_id uuid, turn_id uuid, outcome text, code text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_job inference.jobs;
  v_tenant text := current_setting('app.tenant_id', true);
BEGIN
  FOR v_job IN
    SELECT j.*
    FROM inference.jobs AS j
    WHERE (j.status = 'running' AND j.leased_until < clock_timestamp())
      OR (j.status = 'queued' AND j.emitted_at < clock_timestamp() - p_waiting)
    ORDER BY j.emitted_at
    LIMIT p_limit
    FOR UPDATE SKIP LOCKED
  LOOP
    tenant_id := v_job.tenant_id;
    turn_id := v_job.turn_id;
    code := NULL;
    IF v_job.attempts < v_job.max_attempts AND v_job.created_at > clock_timestamp() - p_expiry THEN
      UPDATE inference.jobs AS j
      SET status = 'queued', leased_by = NULL, leased_until = NULL, emitted_at = clock_timestamp()
      WHERE j.tenant_id = v_job.tenant_id AND j.id = v_job.id;
      outcome := 'emitted';
    ELSE
      PERFORM set_config('app.tenant_id', v_job.tenant_id::text, true);
      UPDATE inference.jobs AS j
      SET status = 'running', leased_by = 'sweeper', leased_until = clock_timestamp()
      WHERE j.tenant_id = v_job.tenant_id AND j.id = v_job.id;
      code := CASE WHEN v_job.attempts >= v_job.max_attempts THEN 'attempts_exhausted' ELSE 'expired' END;
      PERFORM inference.fail(
        v_job.id, 'sweeper', v_job.attempts, code,
        format('The answer was started %s times within %s and never finished.', v_job.attempts,
               date_trunc('second', clock_timestamp() - v_job.created_at)),
        '', '/sweeper', v_job.id::text);
      INSERT INTO events.dead_letters (id, tenant_id, type, subject, extensions, data, created_at, attempts, last_error)
      VALUES (gen_random_uuid(), v_job.tenant_id, 'com.enterprise-agents.inference.requested.v1', v_job.turn_id::text,
              jsonb_build_object('tier', v_job.tier), jsonb_build_object('job_id', v_job.id, 'turn_id', v_job.turn_id),
              v_job.created_at, v_job.attempts, code);
      outcome := 'failed';
    END IF;
    RETURN NEXT;
  END LOOP;
  PERFORM set_config('app.tenant_id', coalesce(v_tenant, ''), true);
END
$$;

COMMENT ON FUNCTION inference.sweep(interval, interval, integer) IS
  'Emits jobs of all tenants again whose worker died or whose event was lost, and fails those out of attempts or older than p_expiry, releasing their reservations.';
GRANT EXECUTE ON FUNCTION inference.sweep(interval, interval, integer) TO app;
