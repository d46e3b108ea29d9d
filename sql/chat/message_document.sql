-- requires: 003_conversation_fields
CREATE OR REPLACE FUNCTION chat.message_document(p_message chat.messages, p_turn chat.turns)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'id', p_message.id, 'parent_id', p_message.parent_id, 'turn_id', p_message.turn_id, 'role', p_message.role,
    'content', p_message.content, 'created_at', p_message.created_at,
    'model', CASE p_message.role WHEN 'assistant' THEN p_turn.model END,
    'status', CASE p_message.role WHEN 'assistant' THEN p_turn.status END,
    'citations', chat.message_citations(p_message.id))
$$;

COMMENT ON FUNCTION chat.message_document(chat.messages, chat.turns) IS
  'What is told of a message of a conversation: {id, parent_id, turn_id, role, content, created_at, model, status, citations}; model and status of its turn are those of an answer.';
GRANT EXECUTE ON FUNCTION chat.message_document(chat.messages, chat.turns) TO app;
