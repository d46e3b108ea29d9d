-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION chat.message_document(p_written chat.messages, p_turn chat.turns)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'id', p_written.id, 'parent_id', p_written.parent_id, 'turn_id', p_written.turn_id, 'role', p_written.role,
    'content', p_written.content, 'created_at', p_written.created_at,
    'model', CASE p_written.role WHEN 'assistant' THEN p_turn.model END,
    'status', CASE p_written.role WHEN 'assistant' THEN p_turn.status END,
    'citations', chat.message_citations(p_written.id))
$$;

COMMENT ON FUNCTION chat.message_document(chat.messages, chat.turns) IS
  'What is told of a message of a conversation: {id, parent_id, turn_id, role, content, created_at, model, status, citations}; model and status of its turn are those of an answer.';
GRANT EXECUTE ON FUNCTION chat.message_document(chat.messages, chat.turns) TO app;
