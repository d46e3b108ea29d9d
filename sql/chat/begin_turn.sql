-- requires: 015_hybrid_search
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
  p_traceparent text DEFAULT NULL,
  p_parent_id uuid DEFAULT NULL,
  p_edits uuid DEFAULT NULL,
  p_timings jsonb DEFAULT NULL,
  p_embedding_model integer DEFAULT NULL,
  p_reranked jsonb DEFAULT NULL,
  p_reserve boolean DEFAULT false,
  p_held uuid DEFAULT NULL,
  p_held_tokens bigint DEFAULT NULL
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.require_user();
  v_turn uuid := gen_random_uuid();
  v_question uuid := gen_random_uuid();
  v_conversation uuid := coalesce(p_conversation_id, gen_random_uuid());
  v_parent uuid;
  v_request bytea := sha256(convert_to(
    jsonb_build_array(p_message, p_conversation_id, p_collections, p_max_tokens, p_model, p_parent_id, p_edits)::text, 'UTF8'));
  v_earlier jsonb;
  v_passages integer;
  v_retrieval_at timestamptz;
BEGIN
  -- Who is being erased at this moment begins nothing; and erasing takes the user before the conversations, as this does.
  PERFORM FROM core.users AS u WHERE u.tenant_id = v_tenant AND u.id = v_user FOR KEY SHARE;

  -- 1. The same request again is the same turn.
  v_earlier := chat.earlier_turn(p_idempotency_key, v_request);
  IF v_earlier IS NOT NULL THEN
    -- Two of the same at once have both asked the endpoint.
    PERFORM budget.settle_embedding(p_held, p_held_tokens);
    RETURN v_earlier;
  ELSIF p_reserve THEN
    RETURN budget.reserve_question(p_message);
  END IF;

  -- 2. The conversation, a new one or one of this user's, and the place in it.
  IF p_conversation_id IS NULL AND num_nonnulls(p_parent_id, p_edits) > 0 THEN
    PERFORM ops.raise_problem('invalid_request', 'parent_id and edits are places in a conversation: name it.');
  ELSIF p_conversation_id IS NULL THEN
    INSERT INTO chat.conversations (tenant_id, id, user_id, title)
    VALUES (v_tenant, v_conversation, v_user, left(regexp_replace(p_message, '\s+', ' ', 'g'), 80));
  ELSE
    UPDATE chat.conversations AS c SET updated_at = now()
    WHERE c.tenant_id = v_tenant AND c.id = p_conversation_id AND c.user_id = v_user;
    IF NOT FOUND THEN
      PERFORM ops.raise_problem('not_found', 'There is no such conversation.', jsonb_build_object('conversation_id', p_conversation_id));
    END IF;
    v_parent := chat.place_in(p_conversation_id, p_parent_id, p_edits);
  END IF;

  -- 3. The turn, its question, and the passages found for it.
  INSERT INTO chat.turns (tenant_id, id, conversation_id, user_id, idempotency_key, request_sha256, retrieval, max_tokens, question_id)
  VALUES (v_tenant, v_turn, v_conversation, v_user, p_idempotency_key, v_request,
          chat.retrieval_mode(p_embedding, p_reranked), p_max_tokens, v_question);
  INSERT INTO chat.messages (tenant_id, id, conversation_id, turn_id, user_id, role, content, parent_id)
  VALUES (v_tenant, v_question, v_conversation, v_turn, v_user, 'user', p_message, v_parent);
  v_retrieval_at := clock_timestamp();
  IF p_embedding_model IS NOT NULL THEN
    PERFORM rag.require_model(p_embedding_model);
  END IF;
  v_passages := chat.retrieve(v_turn, p_message, p_embedding, p_collections, p_reranked);

  -- 4. The model, the job and the reservation.
  RETURN chat.dispatch(v_turn, p_message, p_model, v_passages, p_traceparent,
                       p_timings => coalesce(p_timings, '{}') || jsonb_build_object('retrieval_at', v_retrieval_at),
                       p_held => p_held, p_held_tokens => p_held_tokens);
END
$$;

COMMENT ON FUNCTION chat.begin_turn(text, text, uuid, text[], text, integer, text, text, uuid, uuid, jsonb, integer, jsonb, boolean, uuid, bigint) IS
  'Accepts a question of the current user: idempotency, retrieval, routing, job, reservation. It follows the newest answer of its conversation, p_parent_id, or what the question of '
  'the turn p_edits follows. p_timings: milliseconds of the steps before, for the trace. p_embedding_model: whose vector '
  'p_embedding is; p_reranked: as in chat.retrieve. With p_reserve nothing is begun: it returns budget.reserve_question, unless the turn was begun before; p_held and p_held_tokens then '
  'end that, as budget.settle_embedding does. Returns chat.turn_accepted; raises not_found, idempotency_conflict, embedding_model_changed, no_model, no_healthy_model, '
  'budget_exceeded, budget_paused.';
GRANT EXECUTE ON FUNCTION chat.begin_turn(text, text, uuid, text[], text, integer, text, text, uuid, uuid, jsonb, integer, jsonb, boolean, uuid, bigint) TO app;
