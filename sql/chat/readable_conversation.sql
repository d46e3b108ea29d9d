-- requires: 003_conversation_fields
CREATE OR REPLACE FUNCTION chat.readable_conversation(p_conversation_id uuid)
RETURNS chat.conversations
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_conversation chat.conversations;
BEGIN
  SELECT * INTO v_conversation FROM chat.conversations AS c WHERE c.tenant_id = core.require_tenant() AND c.id = p_conversation_id;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such conversation.', jsonb_build_object('conversation_id', p_conversation_id));
  END IF;
  RETURN v_conversation;
END
$$;

COMMENT ON FUNCTION chat.readable_conversation(uuid) IS
  'A conversation that the caller may read: it runs with the caller''s rights, and the policy of chat.conversations decides. Raises not_found.';
GRANT EXECUTE ON FUNCTION chat.readable_conversation(uuid) TO app;
