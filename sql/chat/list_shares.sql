-- requires: 000_core
-- It runs with the caller's rights: who may read a conversation may see with whom it is shared.
CREATE OR REPLACE FUNCTION chat.list_shares(p_conversation_id uuid)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM chat.conversations AS c WHERE c.tenant_id = core.require_tenant() AND c.id = p_conversation_id) THEN
    PERFORM ops.raise_problem('not_found', 'There is no such conversation.', jsonb_build_object('conversation_id', p_conversation_id));
  END IF;
  RETURN (
    SELECT jsonb_build_object(
      'conversation_id', p_conversation_id,
      'users', coalesce(jsonb_agg(s.user_id ORDER BY s.user_id) FILTER (WHERE s.user_id IS NOT NULL), '[]'),
      'groups', coalesce(jsonb_agg(s.group_name ORDER BY s.group_name) FILTER (WHERE s.group_name IS NOT NULL), '[]'),
      'whole_tenant', coalesce(bool_or(s.whole_tenant), false))
    FROM chat.shares AS s
    WHERE s.tenant_id = core.require_tenant() AND s.conversation_id = p_conversation_id);
END
$$;

COMMENT ON FUNCTION chat.list_shares(uuid) IS 'Who may read a conversation besides its owner: {conversation_id, users, groups, whole_tenant}; raises not_found.';
GRANT EXECUTE ON FUNCTION chat.list_shares(uuid) TO app;
