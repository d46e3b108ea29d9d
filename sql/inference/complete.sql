-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION inference.complete(
  p_job_id uuid, p_worker text, p_attempt integer, p_status text, p_content text,
  p_prompt_tokens integer, p_completion_tokens integer, p_event_source text DEFAULT NULL, p_event_id text DEFAULT NULL,
  p_first_token_ms double precision DEFAULT NULL, p_pieces integer DEFAULT 0, p_tool_calls jsonb DEFAULT NULL, p_finish_reason text DEFAULT NULL,
  p_timings jsonb DEFAULT NULL
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_turn chat.turns;
  v_message uuid;
BEGIN
  UPDATE inference.jobs AS j
  SET status = p_status, leased_by = NULL, leased_until = NULL,
      history = inference.attempt_ended(j.history, p_status, clock_timestamp(), NULL, p_timings)
  WHERE j.tenant_id = v_tenant AND j.id = p_job_id
    AND j.status = 'running' AND j.leased_by = p_worker AND j.attempts = p_attempt
  RETURNING j.turn_id INTO v_turn.id;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('lease_lost', 'Another worker has taken the job over, or it has ended.', jsonb_build_object('job_id', p_job_id));
  END IF;
  -- By itself: joined to the job, it was found among all of the tenant's while there were no statistics.
  SELECT * INTO STRICT v_turn FROM chat.turns AS t WHERE t.tenant_id = v_tenant AND t.id = v_turn.id;

  INSERT INTO chat.messages (tenant_id, conversation_id, turn_id, user_id, role, content, parent_id, tool_calls)
  VALUES (v_tenant, v_turn.conversation_id, v_turn.id, CASE WHEN v_turn.conversation_id IS NOT NULL THEN v_turn.user_id END,
          'assistant', p_content, v_turn.question_id, p_tool_calls)
  RETURNING id INTO v_message;
  IF EXISTS (SELECT FROM chat.passages AS p WHERE p.tenant_id = v_tenant AND p.turn_id = v_turn.id) THEN
    WITH cited AS MATERIALIZED (
      SELECT p.*
      FROM (
        SELECT DISTINCT m.number[1]::numeric AS n
        FROM regexp_matches(p_content, '\[([0-9]{1,4})\]', 'g') AS m (number)
      ) AS marker
      JOIN chat.passages AS p ON p.tenant_id = v_tenant AND p.turn_id = v_turn.id AND p.ordinal = marker.n
    )
    INSERT INTO chat.citations (tenant_id, message_id, ordinal, document_id, chunk_id, document_name, heading, quote, page, start_char, end_char)
    SELECT v_tenant, v_message, c.ordinal, c.document_id, c.chunk_id, c.document_name, c.heading, left(c.content, 300), c.page, c.start_char, c.end_char
    FROM cited AS c
    -- A document that is just being deleted takes its passages with it: nothing points to it any more.
    WHERE c.document_id = ANY (ARRAY(SELECT rag.hold_documents(ARRAY(SELECT d.document_id FROM cited AS d))));
  END IF;

  -- Usage that the model server did not report is counted: a server sends a token a piece, and where the pieces are longer than
  -- tokens are, it is estimated, high. Never above what the model was held to.
  UPDATE chat.turns AS t
  SET status = p_status, finished_at = clock_timestamp(), finish_reason = p_finish_reason,
      prompt_tokens = coalesce(p_prompt_tokens, chat.estimated_prompt(v_turn.id)),
      completion_tokens = coalesce(p_completion_tokens, least(inference.count_tokens(p_content || coalesce(p_tool_calls::text, ''), p_pieces), v_turn.max_tokens))
  WHERE t.tenant_id = v_tenant AND t.id = v_turn.id
  RETURNING t.* INTO v_turn;
  -- Who holds the conversation asks in it, which moves it as well, or deletes it, and waits for this job: so it is not waited for.
  IF v_turn.conversation_id IS NOT NULL THEN
    UPDATE chat.conversations AS c SET updated_at = now()
    WHERE c.tenant_id = v_tenant AND c.id = (
      SELECT free.id FROM chat.conversations AS free
      WHERE free.tenant_id = v_tenant AND free.id = v_turn.conversation_id
      FOR NO KEY UPDATE SKIP LOCKED);
  END IF;
  -- Before the balances, in the order of chat.begin_turn.
  IF p_first_token_ms IS NOT NULL THEN
    PERFORM routing.report(v_turn.model, true, p_first_token_ms);
  END IF;
  PERFORM budget.settle(v_turn.id, v_turn.prompt_tokens, v_turn.completion_tokens);
  IF p_event_id IS NOT NULL THEN
    PERFORM events.mark_consumed('inference', p_event_source, p_event_id);
  END IF;
  RETURN chat.turn_result(v_turn.id);
END
$$;

COMMENT ON FUNCTION inference.complete(uuid, text, integer, text, text, integer, integer, text, text, double precision, integer, jsonb, text, jsonb) IS
  'Ends a job as completed or stopped: message, citations, usage, settlement and, for an event, the inbox in one transaction. p_pieces: in how many the text arrived; '
  'p_timings: of the attempt, for the trace. Returns chat.turn_result; raises lease_lost.';
GRANT EXECUTE ON FUNCTION inference.complete(uuid, text, integer, text, text, integer, integer, text, text, double precision, integer, jsonb, text, jsonb) TO app;
