-- requires: 015_hybrid_search
-- A turn of the OpenAI API. The client brings the whole history, so that it belongs to no conversation; all else is as with a question.
-- Whether it needs an embedding only the database knows, which knows the aliases: it says so, and is called again.
CREATE OR REPLACE FUNCTION chat.begin_completion(
  p_messages jsonb,
  p_parameters jsonb DEFAULT '{}',
  p_model text DEFAULT NULL,
  p_max_tokens integer DEFAULT 4096,
  p_collections text[] DEFAULT NULL,
  p_embedding text DEFAULT NULL,
  p_embedded boolean DEFAULT false,
  p_idempotency_key text DEFAULT NULL,
  p_traceparent text DEFAULT NULL,
  p_worker text DEFAULT NULL,
  p_lease interval DEFAULT NULL,
  p_timings jsonb DEFAULT NULL,
  p_embedding_model integer DEFAULT NULL,
  p_reranked jsonb DEFAULT NULL,
  p_reserve boolean DEFAULT false,
  p_held uuid DEFAULT NULL,
  p_held_tokens bigint DEFAULT NULL
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.require_user();
  v_turn uuid := gen_random_uuid();
  -- As much of it as a question may have: what is longer cannot be searched for.
  v_question text := left(coalesce(chat.question_of(p_messages), ''), 100000);
  v_model text := p_model;
  v_collections text[] := p_collections;
  v_alias routing.aliases;
  v_request bytea;
  v_earlier jsonb;
  v_passages integer := 0;
  v_timings jsonb := p_timings;
BEGIN
  IF p_idempotency_key IS NOT NULL THEN
    v_request := sha256(convert_to(jsonb_build_array(p_messages, p_parameters, p_model, p_max_tokens, p_collections)::text, 'UTF8'));
    v_earlier := chat.earlier_turn(p_idempotency_key, v_request);
    IF v_earlier IS NOT NULL THEN
      PERFORM budget.settle_embedding(p_held, p_held_tokens);
      RETURN v_earlier;
    END IF;
  END IF;

  SELECT * INTO v_alias FROM routing.aliases AS a WHERE a.tenant_id = v_tenant AND a.name = p_model;
  IF FOUND THEN
    v_model := v_alias.model;
    v_collections := coalesce(p_collections, v_alias.collections);
  END IF;
  IF v_collections IS NOT NULL AND NOT p_embedded THEN
    RETURN jsonb_build_object('embed', v_question, 'collections', nullif(v_collections, '{}'))
      || CASE WHEN p_reserve AND v_question ~ '\S' THEN budget.reserve_question(v_question) ELSE '{}' END;
  END IF;

  INSERT INTO chat.turns (tenant_id, id, user_id, idempotency_key, request_sha256, retrieval, max_tokens, request)
  VALUES (v_tenant, v_turn, v_user, p_idempotency_key, coalesce(v_request, ''),
          CASE WHEN v_collections IS NULL THEN '{"mode": "none"}'
               ELSE chat.retrieval_mode(p_embedding, p_reranked) END,
          p_max_tokens, jsonb_build_object('messages', p_messages, 'parameters', p_parameters));
  IF v_collections IS NOT NULL THEN
    v_timings := coalesce(v_timings, '{}') || jsonb_build_object('retrieval_at', clock_timestamp());
    IF p_embedding_model IS NOT NULL THEN
      PERFORM rag.require_model(p_embedding_model);
    END IF;
    v_passages := chat.retrieve(v_turn, v_question, p_embedding, nullif(v_collections, '{}'), p_reranked);
  END IF;
  RETURN chat.dispatch(v_turn, v_question, v_model, v_passages, p_traceparent, p_worker, p_lease,
                       CASE WHEN v_passages = 0 THEN p_messages END, v_timings, p_held, p_held_tokens);
END
$$;

COMMENT ON FUNCTION chat.begin_completion(jsonb, jsonb, text, integer, text[], text, boolean, text, text, text, interval, jsonb, integer, jsonb, boolean, uuid, bigint) IS
  'Accepts a request of the OpenAI API: as chat.begin_turn, for messages that the client brings. p_collections: where to search, {} everywhere, NULL: only if the model is an alias. '
  'Returns chat.turn_accepted with the job of p_worker; or {embed, collections}, the text whose embedding it needs first, and where it is searched for; with p_reserve, and unless the text is '
  'blank, also {held, model} of budget.reserve_question, which p_held and p_held_tokens end. Raises not_found, '
  'idempotency_conflict, embedding_model_changed, no_model, no_healthy_model, budget_exceeded, budget_paused.';
GRANT EXECUTE ON FUNCTION chat.begin_completion(jsonb, jsonb, text, integer, text[], text, boolean, text, text, text, interval, jsonb, integer, jsonb, boolean, uuid, bigint) TO app;
