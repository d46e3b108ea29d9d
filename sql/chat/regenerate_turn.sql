-- requires: 015_hybrid_search
-- Another answer to the same question, from the same passages: what differs is the model's doing. The answers stand side by side.
CREATE OR REPLACE FUNCTION chat.regenerate_turn(
  p_turn_id uuid, p_model text DEFAULT NULL, p_max_tokens integer DEFAULT NULL, p_idempotency_key text DEFAULT NULL,
  p_traceparent text DEFAULT NULL, p_timings jsonb DEFAULT NULL
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.require_user();
  v_turn uuid := gen_random_uuid();
  v_request bytea := sha256(convert_to(jsonb_build_array('regenerate', p_turn_id, p_model, p_max_tokens)::text, 'UTF8'));
  v_earlier jsonb;
  v_before chat.turns;
  v_question text;
  v_passages integer;
BEGIN
  -- Everything in the order of chat.begin_turn.
  PERFORM FROM core.users AS u WHERE u.tenant_id = v_tenant AND u.id = v_user FOR KEY SHARE;
  v_earlier := chat.earlier_turn(p_idempotency_key, v_request);
  IF v_earlier IS NOT NULL THEN
    RETURN v_earlier;
  END IF;

  UPDATE chat.conversations AS c SET updated_at = now()
  FROM chat.turns AS t
  WHERE t.tenant_id = v_tenant AND t.id = p_turn_id AND c.tenant_id = t.tenant_id AND c.id = t.conversation_id AND c.user_id = v_user
  RETURNING t.* INTO v_before;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such turn in a conversation of yours.', jsonb_build_object('turn_id', p_turn_id));
  ELSIF v_before.finished_at IS NULL THEN
    PERFORM ops.raise_problem('conflict', 'The turn has not ended yet: wait for it, or stop it.', jsonb_build_object('turn_id', p_turn_id));
  END IF;

  INSERT INTO chat.turns (tenant_id, id, conversation_id, user_id, idempotency_key, request_sha256, retrieval, max_tokens, question_id)
  VALUES (v_tenant, v_turn, v_before.conversation_id, v_user, p_idempotency_key, v_request, v_before.retrieval,
          coalesce(p_max_tokens, v_before.max_tokens), v_before.question_id);
  INSERT INTO chat.passages (
    tenant_id, turn_id, ordinal, document_id, chunk_id, document_name, heading, content,
    page, start_char, end_char, context_before, context_after, score, vector_rank, text_rank, trigram_rank, rerank_score)
  SELECT v_tenant, v_turn, p.ordinal, p.document_id, p.chunk_id, p.document_name, p.heading, p.content,
    p.page, p.start_char, p.end_char, p.context_before, p.context_after, p.score, p.vector_rank, p.text_rank, p.trigram_rank, p.rerank_score
  FROM chat.passages AS p
  WHERE p.tenant_id = v_tenant AND p.turn_id = p_turn_id AND p.document_id = ANY (ARRAY(
    SELECT rag.hold_documents(ARRAY(
      SELECT b.document_id FROM chat.passages AS b WHERE b.tenant_id = v_tenant AND b.turn_id = p_turn_id))));
  GET DIAGNOSTICS v_passages = ROW_COUNT;
  SELECT m.content INTO STRICT v_question FROM chat.messages AS m WHERE m.tenant_id = v_tenant AND m.id = v_before.question_id;
  RETURN chat.dispatch(v_turn, v_question, coalesce(p_model, v_before.routing ->> 'requested'), v_passages, p_traceparent,
                       p_timings => p_timings);
END
$$;

COMMENT ON FUNCTION chat.regenerate_turn(uuid, text, integer, text, text, jsonb) IS
  'Begins another turn for the question of a turn of the current user''s that has ended, by default with what it asked for: its model or tier, and its longest answer. Returns '
  'chat.turn_accepted; raises not_found, conflict, idempotency_conflict, no_model, no_healthy_model, budget_exceeded, budget_paused.';
GRANT EXECUTE ON FUNCTION chat.regenerate_turn(uuid, text, integer, text, text, jsonb) TO app;
