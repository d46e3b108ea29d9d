-- requires: 012_budget_metrics
-- The whole decision of a turn in one call and one transaction: it commits a turn that will be answered, or nothing.
-- The reservation comes last, because it locks the tenant's balances until the commit.
CREATE OR REPLACE FUNCTION chat.begin_turn(
  p_message text,
  p_embedding text DEFAULT NULL,
  p_conversation_id uuid DEFAULT NULL,
  p_collections text[] DEFAULT NULL,
  p_idempotency_key text DEFAULT NULL,
  p_max_tokens integer DEFAULT 1024,
  p_model text DEFAULT NULL,
  p_traceparent text DEFAULT NULL
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.require_user();
  v_turn uuid := gen_random_uuid();
  v_conversation uuid := coalesce(p_conversation_id, gen_random_uuid());
  v_request bytea := sha256(convert_to(
    jsonb_build_array(p_message, p_conversation_id, p_collections, p_max_tokens, p_model)::text, 'UTF8'));
  v_earlier chat.turns;
  v_prompt jsonb;
  v_prompt_tokens bigint;
  v_history_chars integer;
  v_passages integer;
  v_choice jsonb;
  v_accepted jsonb;
BEGIN
  -- Who is being erased at this moment begins nothing; and erasing takes the user before the conversations, as this does.
  PERFORM FROM core.users AS u WHERE u.tenant_id = v_tenant AND u.id = v_user FOR KEY SHARE;

  -- 1. The same request again, even at the same instant, is the same turn: the lock makes the second one wait.
  IF p_idempotency_key IS NOT NULL THEN
    PERFORM pg_advisory_xact_lock(hashtextextended(format('%s/%s/%s', v_tenant, v_user, p_idempotency_key), 0));
    SELECT * INTO v_earlier
    FROM chat.turns AS t
    WHERE t.tenant_id = v_tenant AND t.user_id = v_user AND t.idempotency_key = p_idempotency_key;
    IF FOUND THEN
      IF v_earlier.request_sha256 <> v_request THEN
        PERFORM ops.raise_problem('idempotency_conflict', 'This Idempotency-Key was used for a different request.',
                                  jsonb_build_object('turn_id', v_earlier.id));
      END IF;
      RETURN chat.turn_accepted(v_earlier.id) || '{"replayed": true}';
    END IF;
  END IF;

  -- 2. The conversation: a new one, or one of this user's.
  IF p_conversation_id IS NULL THEN
    INSERT INTO chat.conversations (tenant_id, id, user_id, title)
    VALUES (v_tenant, v_conversation, v_user, left(regexp_replace(p_message, '\s+', ' ', 'g'), 80));
  ELSE
    UPDATE chat.conversations AS c SET updated_at = now()
    WHERE c.tenant_id = v_tenant AND c.id = p_conversation_id AND c.user_id = v_user;
    IF NOT FOUND THEN
      PERFORM ops.raise_problem('not_found', 'There is no such conversation.', jsonb_build_object('conversation_id', p_conversation_id));
    END IF;
  END IF;

  -- 3. The turn, its question, and the passages found for it.
  INSERT INTO chat.turns (tenant_id, id, conversation_id, user_id, idempotency_key, request_sha256, retrieval, max_tokens)
  VALUES (v_tenant, v_turn, v_conversation, v_user, p_idempotency_key, v_request,
          jsonb_build_object('mode', CASE WHEN p_embedding IS NULL THEN 'text' ELSE 'hybrid' END), p_max_tokens);
  INSERT INTO chat.messages (tenant_id, conversation_id, turn_id, role, content)
  VALUES (v_tenant, v_conversation, v_turn, 'user', p_message);
  INSERT INTO chat.passages (
    tenant_id, turn_id, ordinal, document_id, chunk_id, document_name, heading, content,
    score, vector_rank, text_rank, trigram_rank)
  SELECT v_tenant, v_turn, row_number() OVER (ORDER BY s.score DESC, s.chunk_id),
    s.document_id, s.chunk_id, s.document_name, s.heading, s.content,
    s.score, s.vector_rank, s.text_rank, s.trigram_rank
  FROM rag.search(p_message, p_embedding::halfvec, p_collections, ops.setting('vector_top_k')::integer) AS s;

  GET DIAGNOSTICS v_passages = ROW_COUNT;

  -- 4. The model, for the prompt as it is now, estimated high. One that is on trial is tried by one turn at a time.
  v_prompt := chat.prompt(v_turn);
  v_prompt_tokens := budget.estimate_tokens(v_prompt::text);
  SELECT coalesce(sum(length(m.value ->> 'content')), 0) INTO v_history_chars
  FROM jsonb_array_elements(v_prompt) WITH ORDINALITY AS m
  WHERE m.ordinality NOT IN (1, jsonb_array_length(v_prompt));
  LOOP
    v_choice := routing.choose(p_message, p_model, v_prompt_tokens, p_max_tokens, 0, v_passages, v_history_chars);
    EXIT WHEN routing.admit(v_choice ->> 'model');
  END LOOP;
  UPDATE chat.turns AS t SET model = v_choice ->> 'model', tier = v_choice ->> 'tier', routing = v_choice
  WHERE t.tenant_id = v_tenant AND t.id = v_turn;

  -- 5. The job; its trigger puts the event into the outbox.
  INSERT INTO inference.jobs (tenant_id, turn_id, tier, model, traceparent)
  VALUES (v_tenant, v_turn, v_choice ->> 'tier', v_choice ->> 'model', p_traceparent);
  v_accepted := chat.turn_accepted(v_turn);

  -- 6. The budget: the prompt, and all that the model may generate.
  RETURN v_accepted || jsonb_build_object(
    'replayed', false, 'reserved_tokens', budget.reserve(v_turn, v_prompt_tokens, p_max_tokens, v_choice ->> 'model'));
END
$$;

COMMENT ON FUNCTION chat.begin_turn(text, text, uuid, text[], text, integer, text, text) IS
  'Accepts a question of the current user: idempotency, retrieval, routing, job, reservation. Raises not_found, idempotency_conflict, no_model, no_healthy_model, budget_exceeded, budget_paused.';
GRANT EXECUTE ON FUNCTION chat.begin_turn(text, text, uuid, text[], text, integer, text, text) TO app;
