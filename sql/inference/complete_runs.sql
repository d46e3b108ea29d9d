-- requires: 012_budget_metrics
-- Answers of requests of the OpenAI API that one process ended at the same moment, in one transaction: what a commit, a round trip and
-- the tenant's balances cost is paid once for all. It is for what most of them are, an answer without passages whose usage is known
-- and fits what was held; what is more than that its caller ends by inference.complete, which does alike.
-- The jobs are held in the order of chat.abandon_turns, and before the balances.
CREATE OR REPLACE FUNCTION inference.complete_runs(p_worker text, p_runs jsonb)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_run record;
  v_turn record;
  v_now timestamptz;
  v_message uuid;
  v_one budget.reservations;
  v_ended budget.reservations[] := '{}';
  v_models text[] := '{}';
  v_latencies double precision[] := '{}';
  v_answers jsonb := '{}';
BEGIN
  FOR v_run IN
    SELECT r.*
    FROM ROWS FROM (
      jsonb_to_recordset(p_runs) AS (
        job_id uuid, turn_id uuid, attempt integer, status text, content text, tool_calls jsonb, finish_reason text,
        prompt_tokens integer, completion_tokens integer, first_token_ms double precision, timings jsonb)
    ) WITH ORDINALITY AS r (
      job_id, turn_id, attempt, status, content, tool_calls, finish_reason, prompt_tokens, completion_tokens, first_token_ms, timings, number)
    ORDER BY r.turn_id
  LOOP
    v_now := clock_timestamp();
    UPDATE inference.jobs AS j
    SET status = v_run.status, leased_by = NULL, leased_until = NULL,
        history = inference.attempt_ended(j.history, v_run.status, v_now, NULL, v_run.timings)
    WHERE j.tenant_id = v_tenant AND j.id = v_run.job_id AND j.turn_id = v_run.turn_id
      AND j.status = 'running' AND j.leased_by = p_worker AND j.attempts = v_run.attempt;
    CONTINUE WHEN NOT FOUND;
    UPDATE chat.turns AS t
    SET status = v_run.status, finished_at = v_now, finish_reason = v_run.finish_reason,
        prompt_tokens = v_run.prompt_tokens, completion_tokens = v_run.completion_tokens
    WHERE t.tenant_id = v_tenant AND t.id = v_run.turn_id AND t.conversation_id IS NULL AND t.retrieval ->> 'mode' = 'none'
    RETURNING t.model, t.tier, t.created_at INTO STRICT v_turn;
    INSERT INTO chat.messages (tenant_id, turn_id, role, content, tool_calls)
    VALUES (v_tenant, v_run.turn_id, 'assistant', v_run.content, v_run.tool_calls)
    RETURNING id INTO v_message;
    UPDATE budget.reservations AS r
    SET settled = v_run.prompt_tokens + v_run.completion_tokens, closed_at = v_now,
        cost_settled = budget.cost(v_run.prompt_tokens, v_run.completion_tokens, r.input_price, r.output_price)
    WHERE r.tenant_id = v_tenant AND r.turn_id = v_run.turn_id AND r.closed_at IS NULL
    RETURNING * INTO STRICT v_one;
    IF v_one.settled > v_one.tokens OR v_one.cost_settled > v_one.cost_micros THEN
      RAISE EXCEPTION 'more was used than was held: inference.complete settles it';
    END IF;
    INSERT INTO budget.ledger
      (tenant_id, turn_id, user_id, api_key_id, model, entry, tokens, cost_micros, prompt_tokens, completion_tokens, day, month)
    VALUES
      (v_tenant, v_one.turn_id, v_one.user_id, v_one.api_key_id, v_one.model, 'release', v_one.tokens, v_one.cost_micros, NULL, NULL, v_one.day, v_one.month),
      (v_tenant, v_one.turn_id, v_one.user_id, v_one.api_key_id, v_one.model, 'settle', v_one.settled, v_one.cost_settled,
       v_run.prompt_tokens, v_run.completion_tokens, v_one.day, v_one.month);
    v_ended := v_ended || v_one;
    IF v_run.first_token_ms IS NOT NULL AND v_turn.model <> ALL (v_models) THEN
      v_models := v_models || v_turn.model;
      v_latencies := v_latencies || v_run.first_token_ms;
    END IF;
    v_answers := v_answers || jsonb_build_object(v_run.number - 1, jsonb_build_object(
      'turn_id', v_run.turn_id, 'conversation_id', NULL, 'status', v_run.status, 'model', v_turn.model, 'tier', v_turn.tier,
      'finish_reason', v_run.finish_reason, 'question_id', NULL, 'message_id', v_message, 'citations', '[]'::jsonb,
      'usage', jsonb_build_object('prompt_tokens', v_run.prompt_tokens, 'completion_tokens', v_run.completion_tokens, 'total_tokens', v_one.settled),
      'charged_tokens', v_one.settled, 'budget', NULL, 'error', NULL, 'created_at', v_turn.created_at, 'finished_at', v_now));
  END LOOP;

  FOR v_at IN 1..cardinality(v_models) LOOP
    PERFORM routing.report(v_models[v_at], true, v_latencies[v_at]);
  END LOOP;
  -- What several hold of one user, key and day is charged as one.
  IF cardinality(v_ended) > 1 THEN
    v_ended := ARRAY(
      SELECT ROW(v_tenant, NULL, e.user_id, e.api_key_id, NULL, NULL, NULL, e.day, e.month, sum(e.tokens), sum(e.cost_micros),
                 sum(e.settled), sum(e.cost_settled), NULL, NULL, NULL)::budget.reservations
      FROM unnest(v_ended) AS e
      GROUP BY e.user_id, e.api_key_id, e.day, e.month
      ORDER BY e.day);
  END IF;
  -- Who ends turns of several months holds all of the tenant's balances before those of users and keys.
  FOREACH v_one IN ARRAY v_ended LOOP
    PERFORM budget.lock_tenant(v_tenant, v_one.day, v_one.month);
  END LOOP;
  FOREACH v_one IN ARRAY v_ended LOOP
    PERFORM budget.charge(v_one);
  END LOOP;
  RETURN v_answers;
END
$$;

COMMENT ON FUNCTION inference.complete_runs(text, jsonb) IS
  'Ends jobs of requests of the OpenAI API, [{job_id, turn_id, attempt, status, content, tool_calls, finish_reason, prompt_tokens, completion_tokens, first_token_ms, timings}], all or none: '
  '{number from 0: chat.turn_result without answer and tool calls}, without those whose lease is lost. Raises where one needs inference.complete.';
GRANT EXECUTE ON FUNCTION inference.complete_runs(text, jsonb) TO app;
