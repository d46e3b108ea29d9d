-- requires: 015_hybrid_search
-- It runs with the caller's rights: which turns a user may read is the policy of chat.turns; what a turn was charged, and what it was
-- weighed against, only its own user reads.
CREATE OR REPLACE FUNCTION chat.read_trace(p_turn_id uuid)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_turn chat.turns;
  v_traceparent text;
  v_own boolean;
BEGIN
  SELECT * INTO v_turn FROM chat.turns AS t WHERE t.tenant_id = v_tenant AND t.id = p_turn_id;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such turn.', jsonb_build_object('turn_id', p_turn_id));
  END IF;
  v_own := v_turn.user_id = core.current_user_id();
  SELECT j.traceparent INTO v_traceparent FROM inference.jobs AS j WHERE j.tenant_id = v_tenant AND j.turn_id = p_turn_id;
  RETURN jsonb_build_object(
    'turn_id', v_turn.id, 'status', v_turn.status, 'traceparent', v_traceparent, 'trace_id', split_part(v_traceparent, '-', 2),
    'created_at', v_turn.created_at, 'finished_at', v_turn.finished_at,
    'spans', (
      SELECT jsonb_agg(jsonb_build_object(
        'name', s.name, 'started_at', s.started_at, 'duration_ms', s.duration_ms, 'attempt', s.attempt,
        'attributes', CASE WHEN v_own THEN s.attributes ELSE s.attributes - '{worker,detail}'::text[] END))
      FROM chat.trace_spans(v_tenant, p_turn_id) AS s),
    'decisions', jsonb_build_object(
      -- Why a model was not taken tells of the owner's roles and of what is left of a budget.
      'routing', CASE WHEN v_own THEN v_turn.routing ELSE v_turn.routing - '{considered,features,fallbacks,fallback}'::text[] END,
      'retrieval', v_turn.retrieval || jsonb_build_object('passages', coalesce((
        SELECT jsonb_agg(jsonb_build_object(
          'n', p.ordinal, 'document', p.document_name, 'heading', p.heading, 'document_id', p.document_id, 'chunk_id', p.chunk_id,
          'page', p.page, 'score', p.score, 'vector_rank', p.vector_rank, 'text_rank', p.text_rank, 'trigram_rank', p.trigram_rank,
          'rerank_score', p.rerank_score) ORDER BY p.ordinal)
        FROM chat.passages AS p
        WHERE p.tenant_id = v_tenant AND p.turn_id = p_turn_id), '[]')),
      'budget', (
        SELECT jsonb_build_object(
          'reserved_tokens', r.tokens, 'settled_tokens', r.settled, 'reserved_cost', r.cost_micros, 'settled_cost', r.cost_settled,
          'scopes', (
            SELECT jsonb_agg(jsonb_build_object('scope', b.scope, 'holder_id', b.holder_id, 'period', b.period, 'starts_on', b.starts_on)
                             ORDER BY b.scope <> 'tenant', b.scope DESC, b.period DESC)
            FROM budget.balances AS b
            WHERE b.tenant_id = v_tenant
              AND (b.scope, b.holder_id) IN (('tenant', v_tenant), ('user', r.user_id), ('api_key', r.api_key_id))
              AND b.starts_on = CASE b.period WHEN 'day' THEN r.day ELSE r.month END))
        FROM budget.reservations AS r
        WHERE r.tenant_id = v_tenant AND r.turn_id = p_turn_id)));
END
$$;

COMMENT ON FUNCTION chat.read_trace(uuid) IS
  'What happened to a turn that the current user may read, and why: {turn_id, status, traceparent, trace_id, created_at, finished_at, spans (chat.trace_spans), decisions: {routing, '
  'retrieval, budget}}. Whom the turn is only shared with has no budget, and of the routing the outcome. Raises not_found.';
GRANT EXECUTE ON FUNCTION chat.read_trace(uuid) TO app;
