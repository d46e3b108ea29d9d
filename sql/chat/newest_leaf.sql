-- requires: 003_conversation_fields
CREATE OR REPLACE FUNCTION chat.newest_leaf(p_conversation_id uuid)
RETURNS uuid
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT m.id
  FROM chat.messages AS m
  WHERE m.tenant_id = core.require_tenant() AND m.conversation_id = p_conversation_id
    AND NOT EXISTS (SELECT FROM chat.messages AS next WHERE next.tenant_id = m.tenant_id AND next.parent_id = m.id)
  ORDER BY m.created_at DESC, m.id DESC
  LIMIT 1
$$;

COMMENT ON FUNCTION chat.newest_leaf(uuid) IS 'The last message of a conversation''s newest branch: the newest of those that nothing follows.';
GRANT EXECUTE ON FUNCTION chat.newest_leaf(uuid) TO app;
