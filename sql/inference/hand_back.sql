-- requires: 004_agent_traces
CREATE OR REPLACE FUNCTION inference.hand_back(p_job_id uuid, p_worker text, p_attempt integer)
RETURNS boolean
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  -- An attempt that was not allowed to end does not count among the attempts.
  WITH returned AS (
    UPDATE inference.jobs AS j
    SET status = 'queued', leased_by = NULL, leased_until = NULL, emitted_at = clock_timestamp(), max_attempts = j.max_attempts + 1,
        history = inference.attempt_ended(j.history, 'handed_back', clock_timestamp())
    WHERE j.tenant_id = core.require_tenant() AND j.id = p_job_id
      AND j.status = 'running' AND j.leased_by = p_worker AND j.attempts = p_attempt
    RETURNING 1
  )
  SELECT EXISTS (SELECT FROM returned)
$$;

COMMENT ON FUNCTION inference.hand_back(uuid, text, integer) IS
  'A worker that has to leave gives up a job before its lease is over: the job is emitted again at once. False: it was not the worker''s any more.';
GRANT EXECUTE ON FUNCTION inference.hand_back(uuid, text, integer) TO app;
