-- requires: 003_conversation_fields
CREATE OR REPLACE FUNCTION chat.update_conversation(p_conversation_id uuid, p_title text DEFAULT NULL, p_archived boolean DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_conversation chat.conversations;
BEGIN
  PERFORM core.require_operation('chat.manage');
  PERFORM chat.own_conversation(p_conversation_id);
  UPDATE chat.conversations AS c
  SET title = coalesce(p_title, c.title),
      archived_at = CASE p_archived WHEN true THEN coalesce(c.archived_at, now()) WHEN false THEN NULL ELSE c.archived_at END
  WHERE c.tenant_id = v_tenant AND c.id = p_conversation_id
  RETURNING * INTO v_conversation;
  RETURN chat.conversation_document(v_conversation);
END
$$;

COMMENT ON FUNCTION chat.update_conversation(uuid, text, boolean) IS
  'Renames, archives or brings back a conversation of the current user; NULL: as it is. Returns chat.conversation_document; raises not_found.';
GRANT EXECUTE ON FUNCTION chat.update_conversation(uuid, text, boolean) TO app;
