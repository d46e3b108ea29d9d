-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION inference.give_up(p_job_id uuid, p_code text)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_job inference.jobs;
BEGIN
  UPDATE inference.jobs AS j
  SET status = 'running', leased_by = 'sweeper', leased_until = clock_timestamp(),
      history = inference.attempt_ended(j.history, 'lost', j.leased_until)
  WHERE j.tenant_id = v_tenant AND j.id = p_job_id
  RETURNING j.* INTO STRICT v_job;
  PERFORM inference.fail(
    v_job.id, 'sweeper', v_job.attempts, p_code,
    format('The answer was started %s times within %s and never finished.', v_job.attempts,
           date_trunc('second', clock_timestamp() - v_job.created_at)),
    '', '/sweeper', v_job.id::text);
  INSERT INTO events.dead_letters (id, tenant_id, type, subject, extensions, data, created_at, attempts, last_error)
  VALUES (gen_random_uuid(), v_tenant, 'com.enterprise-agents.inference.requested.v1', v_job.turn_id::text,
          jsonb_build_object('tier', v_job.tier), jsonb_build_object('job_id', v_job.id, 'turn_id', v_job.turn_id),
          v_job.created_at, v_job.attempts, p_code);
END
$$;

COMMENT ON FUNCTION inference.give_up(uuid, text) IS 'Fails a job that nobody holds and leaves a dead letter. Internal: the caller holds the job''s row.';
