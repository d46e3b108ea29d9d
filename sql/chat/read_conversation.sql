-- requires: 003_conversation_fields
-- It runs with the caller's rights: which conversations a user may read is the policy of chat.conversations.
CREATE OR REPLACE FUNCTION chat.read_conversation(p_conversation_id uuid)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  RETURN chat.conversation_document(chat.readable_conversation(p_conversation_id)) || jsonb_build_object(
    'leaf_id', chat.newest_leaf(p_conversation_id),
    'messages', (
      SELECT coalesce(jsonb_agg(chat.message_document(m, t) ORDER BY m.created_at, m.id), '[]')
      FROM chat.messages AS m
      JOIN chat.turns AS t ON t.tenant_id = m.tenant_id AND t.id = m.turn_id
      WHERE m.tenant_id = v_tenant AND m.conversation_id = p_conversation_id),
    'unanswered', (
      SELECT coalesce(jsonb_agg(jsonb_build_object(
        'turn_id', t.id, 'question_id', t.question_id, 'status', t.status, 'model', t.model, 'created_at', t.created_at,
        'error', CASE WHEN t.error_code IS NOT NULL THEN jsonb_build_object('code', t.error_code, 'detail', t.error_detail) END
      ) ORDER BY t.created_at, t.id), '[]')
      FROM chat.turns AS t
      WHERE t.tenant_id = v_tenant AND t.conversation_id = p_conversation_id
        AND NOT EXISTS (SELECT FROM chat.messages AS a WHERE a.tenant_id = t.tenant_id AND a.turn_id = t.id AND a.role = 'assistant')));
END
$$;

COMMENT ON FUNCTION chat.read_conversation(uuid) IS
  'A conversation that the current user may read, with all its branches: chat.conversation_document with leaf_id (chat.newest_leaf), messages: [chat.message_document], and unanswered: '
  '[{turn_id, question_id, status, model, created_at, error}], the turns that have no answer yet or never got one. Raises not_found.';
GRANT EXECUTE ON FUNCTION chat.read_conversation(uuid) TO app;
