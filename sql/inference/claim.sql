-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION inference.claim(p_job_id uuid, p_worker text, p_lease interval)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_job inference.jobs;
  v_turn chat.turns;
BEGIN
  SELECT * INTO v_job FROM inference.jobs AS j WHERE j.tenant_id = v_tenant AND j.id = p_job_id FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such job in the event''s tenant.', jsonb_build_object('job_id', p_job_id));
  ELSIF v_job.status IN ('completed', 'failed', 'stopped') THEN
    RETURN jsonb_build_object('outcome', 'done', 'turn_id', v_job.turn_id);
  ELSIF v_job.status = 'running' AND v_job.leased_until > clock_timestamp() THEN
    RETURN jsonb_build_object('outcome', 'busy', 'turn_id', v_job.turn_id);
  ELSIF EXISTS (
    SELECT FROM chat.turns AS t
    WHERE t.tenant_id = v_tenant AND t.id = v_job.turn_id AND t.stop_requested_at IS NOT NULL
  ) THEN
    -- The worker that should have heard of it has died, and its text with it.
    PERFORM chat.end_unanswered(v_job.turn_id);
    RETURN jsonb_build_object('outcome', 'done', 'turn_id', v_job.turn_id);
  ELSIF v_job.attempts >= v_job.max_attempts THEN
    -- The sweeper ends it; until then it is in nobody's hands.
    RETURN jsonb_build_object('outcome', 'exhausted', 'turn_id', v_job.turn_id);
  END IF;
  UPDATE inference.jobs AS j
  SET status = 'running', attempts = j.attempts + 1, leased_by = p_worker, leased_until = clock_timestamp() + p_lease,
      -- Whoever had it before and has not ended it is gone.
      history = inference.attempt_begun(inference.attempt_ended(j.history, 'lost', j.leased_until), p_worker, j.model, j.emitted_at)
  WHERE j.tenant_id = v_tenant AND j.id = p_job_id
  RETURNING j.* INTO v_job;
  UPDATE chat.turns AS t SET status = 'running', started_at = coalesce(t.started_at, clock_timestamp())
  WHERE t.tenant_id = v_tenant AND t.id = v_job.turn_id
  RETURNING t.* INTO v_turn;
  RETURN '{"outcome": "claimed"}' || inference.job_document(v_job, v_turn, chat.prompt(v_job.turn_id));
END
$$;

COMMENT ON FUNCTION inference.claim(uuid, text, interval) IS
  'Leases a job: {outcome: claimed} with inference.job_document; outcome busy (leased elsewhere), done, or exhausted (no attempt left). Raises not_found.';
GRANT EXECUTE ON FUNCTION inference.claim(uuid, text, interval) TO app;
