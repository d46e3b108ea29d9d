-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION inference.fail(
  p_job_id uuid, p_worker text, p_attempt integer, p_code text, p_detail text, p_generated text,
  p_event_source text DEFAULT NULL, p_event_id text DEFAULT NULL, p_pieces integer DEFAULT 0, p_timings jsonb DEFAULT NULL
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_turn uuid;
  v_generated integer;
BEGIN
  UPDATE inference.jobs AS j
  SET status = 'failed', leased_by = NULL, leased_until = NULL,
      history = inference.attempt_ended(j.history, 'failed', clock_timestamp(), p_code, p_timings)
  WHERE j.tenant_id = v_tenant AND j.id = p_job_id
    AND j.status = 'running' AND j.leased_by = p_worker AND j.attempts = p_attempt
  RETURNING j.turn_id, j.generated_tokens INTO v_turn, v_generated;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('lease_lost', 'Another worker has taken the job over, or it has ended.', jsonb_build_object('job_id', p_job_id));
  END IF;
  -- Nothing generated, nothing charged; a broken answer costs its prompt and what was generated of it.
  UPDATE chat.turns AS t
  SET status = 'failed', error_code = p_code, error_detail = left(p_detail, 2000), finished_at = clock_timestamp(),
      prompt_tokens = CASE WHEN p_generated = '' AND p_pieces = 0 AND v_generated = 0 THEN 0 ELSE chat.estimated_prompt(v_turn) END,
      completion_tokens = least(greatest(inference.count_tokens(p_generated, p_pieces), v_generated), t.max_tokens)
  WHERE t.tenant_id = v_tenant AND t.id = v_turn;
  -- Before the balances, in the order of chat.begin_turn.
  -- What the model server refuses says nothing of its health.
  PERFORM routing.report(t.model, false, NULL, p_code)
  FROM chat.turns AS t
  WHERE t.tenant_id = v_tenant AND t.id = v_turn AND p_code IN ('model_unavailable', 'model_timeout', 'model_stream_broken');
  PERFORM budget.settle(v_turn, t.prompt_tokens, t.completion_tokens)
  FROM chat.turns AS t WHERE t.tenant_id = v_tenant AND t.id = v_turn;
  IF p_event_id IS NOT NULL THEN
    PERFORM events.mark_consumed('inference', p_event_source, p_event_id);
  END IF;
  RETURN chat.turn_result(v_turn);
END
$$;

COMMENT ON FUNCTION inference.fail(uuid, text, integer, text, text, text, text, text, integer, jsonb) IS
  'Ends a job as failed with a stable code: the turn, its reservation and, for an event, the inbox in one transaction. Returns chat.turn_result; raises lease_lost.';
GRANT EXECUTE ON FUNCTION inference.fail(uuid, text, integer, text, text, text, text, text, integer, jsonb) TO app;
