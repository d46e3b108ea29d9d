-- requires: 012_budget_metrics
-- What every accepted turn ends with. A process that generates the answer itself names itself and its lease: then the job is its own
-- from the start, no event is needed, and should it die, the lease ends and the sweeper emits the job like any other.
CREATE OR REPLACE FUNCTION chat.dispatch(
  p_turn_id uuid, p_question text, p_model text, p_passages integer, p_traceparent text,
  p_worker text DEFAULT NULL, p_lease interval DEFAULT NULL, p_prompt jsonb DEFAULT NULL, p_timings jsonb DEFAULT NULL,
  p_held uuid DEFAULT NULL, p_held_tokens bigint DEFAULT NULL
)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_routing_at timestamptz := clock_timestamp();
  v_turn chat.turns;
  v_prompt jsonb := coalesce(p_prompt, chat.prompt(p_turn_id));
  v_prompt_tokens bigint := budget.estimate_prompt(v_prompt);
  v_tools integer;
  v_choice jsonb;
  v_job inference.jobs;
  v_answer jsonb;
BEGIN
  SELECT * INTO STRICT v_turn FROM chat.turns AS t WHERE t.tenant_id = v_tenant AND t.id = p_turn_id;
  v_tools := coalesce(jsonb_array_length(v_turn.request -> 'parameters' -> 'tools'), 0);
  v_prompt_tokens := v_prompt_tokens + coalesce(budget.estimate_tokens((v_turn.request -> 'parameters')::text), 0);

  -- 1. The model, for the prompt as it is now, estimated high. One that is on trial is tried by one turn at a time.
  LOOP
    v_choice := routing.choose(p_question, p_model, v_prompt_tokens, v_turn.max_tokens, v_tools, p_passages, chat.history_chars(v_prompt));
    EXIT WHEN routing.admit(v_choice ->> 'model');
  END LOOP;
  UPDATE chat.turns AS t
  SET model = v_choice ->> 'model', tier = v_choice ->> 'tier', routing = v_choice,
      status = CASE WHEN p_worker IS NULL THEN 'queued' ELSE 'running' END,
      started_at = CASE WHEN p_worker IS NOT NULL THEN clock_timestamp() END,
      timings = coalesce(p_timings, '{}') || jsonb_build_object('routing_at', v_routing_at, 'decided_at', clock_timestamp())
  WHERE t.tenant_id = v_tenant AND t.id = p_turn_id;

  -- 2. The job. One that waits for a worker is told by an event, which its trigger puts into the outbox.
  INSERT INTO inference.jobs (tenant_id, turn_id, tier, model, traceparent, status, attempts, leased_by, leased_until, history)
  VALUES (v_tenant, p_turn_id, v_choice ->> 'tier', v_choice ->> 'model', p_traceparent,
          CASE WHEN p_worker IS NULL THEN 'queued' ELSE 'running' END, (p_worker IS NOT NULL)::integer,
          p_worker, clock_timestamp() + p_lease,
          CASE WHEN p_worker IS NULL THEN '[]' ELSE inference.attempt_begun('[]', p_worker, v_choice ->> 'model', NULL) END)
  RETURNING * INTO v_job;
  IF p_worker IS NULL THEN
    v_answer := chat.turn_accepted(p_turn_id);
  ELSE
    -- What the caller has sent it need not be told.
    v_answer := jsonb_build_object(
      'turn_id', p_turn_id, 'model', v_job.model, 'tier', v_job.tier, 'created_at', v_turn.created_at,
      'job', inference.job_document(v_job, v_turn, CASE WHEN p_prompt IS NULL THEN v_prompt END));
  END IF;

  -- 3. The budget: what the question's embedding took, which gives back the rest that it held; the prompt, and all that the model
  -- may generate.
  IF p_held IS NOT NULL THEN
    PERFORM budget.settle_embedding(p_held, p_held_tokens);
  END IF;
  RETURN v_answer || jsonb_build_object(
    'replayed', false, 'reserved_tokens', budget.reserve(p_turn_id, v_prompt_tokens, v_turn.max_tokens, v_choice ->> 'model'));
END
$$;

COMMENT ON FUNCTION chat.dispatch(uuid, text, text, integer, text, text, interval, jsonb, jsonb, uuid, bigint) IS
  'Routes a turn that is stored with its passages, makes its job, and reserves its tokens. Returns chat.turn_accepted; or, for a process that generates it itself, '
  '{turn_id, model, tier, created_at, job: inference.job_document}, without the messages where it brings the whole prompt. Raises no_model, no_healthy_model, budget_exceeded, '
  'budget_paused. p_held, p_held_tokens: as in budget.settle_embedding. Internal.';
