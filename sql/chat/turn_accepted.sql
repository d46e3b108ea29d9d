-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION chat.turn_accepted(p_turn_id uuid)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'turn_id', t.id, 'conversation_id', t.conversation_id, 'status', t.status, 'model', t.model, 'tier', t.tier,
    'created_at', t.created_at, 'routing', t.routing, 'retrieval', t.retrieval, 'max_tokens', t.max_tokens,
    'reserved_tokens', (SELECT r.tokens FROM budget.reservations AS r WHERE r.tenant_id = t.tenant_id AND r.turn_id = t.id),
    'passages', coalesce((
      SELECT jsonb_agg(jsonb_build_object('n', p.ordinal, 'document', p.document_name, 'heading', p.heading, 'page', p.page, 'score', p.score) ORDER BY p.ordinal)
      FROM chat.passages AS p
      WHERE p.tenant_id = t.tenant_id AND p.turn_id = t.id), '[]'))
  FROM chat.turns AS t
  WHERE t.tenant_id = core.require_tenant() AND t.id = p_turn_id
$$;

COMMENT ON FUNCTION chat.turn_accepted(uuid) IS 'What was decided for a turn before its answer: model and why, passages, reservation.';
GRANT EXECUTE ON FUNCTION chat.turn_accepted(uuid) TO app;
