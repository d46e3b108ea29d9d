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
  v_now timestamptz;
  v_turn chat.turns;
  v_message uuid;
  v_held budget.reservations;
  v_tokens bigint;
  v_cost bigint;
  v_sums jsonb := '{}';
  v_of budget.reservations[] := '{}';
  v_charged bigint[] := '{}';
  v_charged_cost bigint[] := '{}';
  v_at integer;
  v_answers jsonb := '{}';
BEGIN
  FOR v_run IN
    SELECT r.ordinality - 1 AS n, c.*
    FROM jsonb_array_elements(p_runs) WITH ORDINALITY AS r
    CROSS JOIN LATERAL jsonb_to_record(r.value) AS c (
      job_id uuid, turn_id uuid, attempt integer, status text, content text, tool_calls jsonb, finish_reason text,
      prompt_tokens integer, completion_tokens integer, first_token_ms double precision, timings jsonb)
    ORDER BY c.turn_id
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
    RETURNING * INTO STRICT v_turn;
    INSERT INTO chat.messages (tenant_id, turn_id, role, content, tool_calls)
    VALUES (v_tenant, v_run.turn_id, 'assistant', v_run.content, v_run.tool_calls)
    RETURNING id INTO v_message;

    v_tokens := v_run.prompt_tokens + v_run.completion_tokens;
    UPDATE budget.reservations AS r
    SET settled = v_tokens, cost_settled = budget.cost(v_run.prompt_tokens, v_run.completion_tokens, r.input_price, r.output_price), closed_at = v_now
    WHERE r.tenant_id = v_tenant AND r.turn_id = v_run.turn_id AND r.closed_at IS NULL
    RETURNING * INTO STRICT v_held;
    v_cost := v_held.cost_settled;
    IF v_tokens > v_held.tokens OR v_cost > v_held.cost_micros THEN
      RAISE EXCEPTION 'more was used than was held: inference.complete settles it';
    END IF;
    INSERT INTO budget.ledger
      (tenant_id, turn_id, user_id, api_key_id, model, entry, tokens, cost_micros, prompt_tokens, completion_tokens, day, month)
    VALUES
      (v_tenant, v_run.turn_id, v_held.user_id, v_held.api_key_id, v_held.model, 'release', v_held.tokens, v_held.cost_micros, NULL, NULL, v_held.day, v_held.month),
      (v_tenant, v_run.turn_id, v_held.user_id, v_held.api_key_id, v_held.model, 'settle', v_tokens, v_cost, v_run.prompt_tokens, v_run.completion_tokens, v_held.day, v_held.month);

    -- Added up for each user, key and day.
    v_at := 1;
    WHILE v_at <= cardinality(v_of) AND (v_of[v_at].user_id, v_of[v_at].api_key_id, v_of[v_at].day) IS DISTINCT FROM (v_held.user_id, v_held.api_key_id, v_held.day) LOOP
      v_at := v_at + 1;
    END LOOP;
    IF v_at > cardinality(v_of) THEN
      v_of[v_at] := v_held;
      v_charged[v_at] := v_tokens;
      v_charged_cost[v_at] := v_cost;
    ELSE
      v_of[v_at].tokens := v_of[v_at].tokens + v_held.tokens;
      v_of[v_at].cost_micros := v_of[v_at].cost_micros + v_held.cost_micros;
      v_charged[v_at] := v_charged[v_at] + v_tokens;
      v_charged_cost[v_at] := v_charged_cost[v_at] + v_cost;
    END IF;
    v_sums := v_sums || jsonb_build_object(v_turn.model, coalesce(v_run.first_token_ms, (v_sums ->> v_turn.model)::double precision));
    v_answers := v_answers || jsonb_build_object(v_run.n::text, jsonb_build_object(
      'turn_id', v_turn.id, 'conversation_id', NULL, 'status', v_turn.status, 'model', v_turn.model, 'tier', v_turn.tier,
      'finish_reason', v_turn.finish_reason, 'question_id', NULL, 'message_id', v_message, 'citations', '[]'::jsonb,
      'usage', jsonb_build_object('prompt_tokens', v_run.prompt_tokens, 'completion_tokens', v_run.completion_tokens, 'total_tokens', v_tokens),
      'charged_tokens', v_tokens, 'budget', NULL, 'error', NULL, 'created_at', v_turn.created_at, 'finished_at', v_turn.finished_at));
  END LOOP;

  PERFORM routing.report(s.key, true, (s.value #>> '{}')::double precision) FROM jsonb_each(v_sums) AS s WHERE s.value <> 'null';
  -- Who ends turns of several days holds the tenant's months before its days.
  PERFORM FROM budget.balances AS b
  WHERE b.tenant_id = v_tenant AND b.scope = 'tenant' AND b.holder_id = v_tenant
    AND ((b.period = 'day' AND b.starts_on IN (SELECT o.day FROM unnest(v_of) AS o)) OR (b.period = 'month' AND b.starts_on IN (SELECT o.month FROM unnest(v_of) AS o)))
  ORDER BY b.period DESC, b.starts_on
  FOR UPDATE;
  FOR v_at IN 1..cardinality(v_of) LOOP
    PERFORM budget.charge(v_of[v_at], v_charged[v_at], v_charged_cost[v_at]);
  END LOOP;
  RETURN v_answers;
END
$$;

COMMENT ON FUNCTION inference.complete_runs(text, jsonb) IS
  'Ends jobs of requests of the OpenAI API, [{job_id, turn_id, attempt, status, content, tool_calls, finish_reason, prompt_tokens, completion_tokens, first_token_ms, timings}], all or none: '
  '{number from 0: chat.turn_result without answer and tool calls}, without those whose lease is lost. Raises where one needs inference.complete.';
GRANT EXECUTE ON FUNCTION inference.complete_runs(text, jsonb) TO app;
