-- requires: 003_conversation_fields
-- It runs with the caller's rights. A cursor is the place of the last conversation of a page, in microseconds since 1970 and its id, so
-- that the next page begins there however many new ones have appeared before it.
CREATE OR REPLACE FUNCTION chat.list_conversations(
  p_archived boolean DEFAULT false, p_shared boolean DEFAULT false, p_cursor text DEFAULT NULL, p_limit integer DEFAULT 50
)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.require_user();
  v_at timestamptz := 'infinity';
  v_id uuid;
  v_found chat.conversations[];
  v_last chat.conversations;
BEGIN
  IF p_cursor !~ '^[0-9]{1,16}-[0-9a-f]{32}$' THEN
    PERFORM ops.raise_problem('invalid_request', 'The cursor is none of this list.');
  ELSIF p_cursor IS NOT NULL THEN
    v_at := timestamptz 'epoch' + split_part(p_cursor, '-', 1)::bigint * interval '1 microsecond';
    v_id := split_part(p_cursor, '-', 2)::uuid;
  END IF;
  -- One more than asked for tells whether there is a next page.
  IF p_shared THEN
    v_found := ARRAY(
      SELECT c FROM chat.conversations AS c
      WHERE c.tenant_id = v_tenant AND c.id = ANY ((SELECT chat.shared_with_me())::uuid[]) AND c.user_id <> v_user
        AND (c.updated_at, c.id) < (v_at, v_id)
      ORDER BY c.updated_at DESC, c.id DESC
      LIMIT p_limit + 1);
  ELSE
    v_found := ARRAY(
      SELECT c FROM chat.conversations AS c
      WHERE c.tenant_id = v_tenant AND c.user_id = v_user AND (c.archived_at IS NOT NULL) = p_archived
        AND (c.updated_at, c.id) < (v_at, v_id)
      ORDER BY c.updated_at DESC, c.id DESC
      LIMIT p_limit + 1);
  END IF;
  IF cardinality(v_found) > p_limit THEN
    v_last := v_found[p_limit];
  END IF;
  RETURN jsonb_build_object(
    'conversations', (
      SELECT coalesce(jsonb_agg(chat.conversation_document(c) ORDER BY c.updated_at DESC, c.id DESC), '[]')
      FROM unnest(v_found[:p_limit]) AS c),
    'next_cursor', (extract(epoch FROM v_last.updated_at) * 1000000)::bigint || '-' || replace(v_last.id::text, '-', ''));
END
$$;

COMMENT ON FUNCTION chat.list_conversations(boolean, boolean, text, integer) IS
  'The current user''s conversations, archived or not, or with p_shared those that others share with the user, by when something was last said in them, newest first: '
  '{conversations: [chat.conversation_document], next_cursor}; next_cursor NULL: it was the last page. Raises invalid_request.';
GRANT EXECUTE ON FUNCTION chat.list_conversations(boolean, boolean, text, integer) TO app;
