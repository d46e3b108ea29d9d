-- requires: 003_conversation_fields
CREATE OR REPLACE FUNCTION chat.conversation_document(p_conversation chat.conversations)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'id', p_conversation.id, 'title', p_conversation.title, 'user_id', p_conversation.user_id, 'created_at', p_conversation.created_at,
    'updated_at', p_conversation.updated_at, 'archived_at', p_conversation.archived_at)
$$;

COMMENT ON FUNCTION chat.conversation_document(chat.conversations) IS 'What is told of a conversation: {id, title, user_id, created_at, updated_at, archived_at}.';
GRANT EXECUTE ON FUNCTION chat.conversation_document(chat.conversations) TO app;
