-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION chat.turn_result(p_turn_id uuid)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'turn_id', t.id, 'conversation_id', t.conversation_id, 'status', t.status, 'model', t.model, 'tier', t.tier,
    'answer', m.content, 'tool_calls', m.tool_calls, 'finish_reason', t.finish_reason, 'question_id', t.question_id, 'message_id', m.id,
    'citations', chat.message_citations(m.id),
    'usage', CASE WHEN t.prompt_tokens IS NULL THEN NULL ELSE jsonb_build_object(
      'prompt_tokens', t.prompt_tokens, 'completion_tokens', t.completion_tokens,
      'total_tokens', t.prompt_tokens + t.completion_tokens) END,
    'charged_tokens', (SELECT r.settled FROM budget.reservations AS r WHERE r.tenant_id = t.tenant_id AND r.turn_id = t.id),
    'budget', CASE WHEN t.request IS NULL THEN budget.status() END,
    'error', CASE WHEN t.error_code IS NULL THEN NULL ELSE jsonb_build_object('code', t.error_code, 'detail', t.error_detail) END,
    'created_at', t.created_at, 'finished_at', t.finished_at)
  FROM chat.turns AS t
  LEFT JOIN chat.messages AS m ON m.tenant_id = t.tenant_id AND m.turn_id = t.id AND m.role = 'assistant'
  WHERE t.tenant_id = core.require_tenant() AND t.id = p_turn_id
$$;

COMMENT ON FUNCTION chat.turn_result(uuid) IS 'How a turn stands or ended: status, answer, citations, usage, charge, budget (not for a request of the OpenAI API), error.';
GRANT EXECUTE ON FUNCTION chat.turn_result(uuid) TO app;
