-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION chat.place_in(p_conversation_id uuid, p_parent_id uuid, p_edits uuid)
RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_parent uuid;
BEGIN
  IF num_nonnulls(p_parent_id, p_edits) = 2 THEN
    PERFORM ops.raise_problem('invalid_request', 'A question follows an answer, or takes the place of another question: not both.');
  ELSIF p_edits IS NOT NULL THEN
    SELECT q.parent_id INTO v_parent
    FROM chat.turns AS t
    JOIN chat.messages AS q ON q.tenant_id = t.tenant_id AND q.id = t.question_id
    WHERE t.tenant_id = v_tenant AND t.id = p_edits AND t.conversation_id = p_conversation_id;
    IF NOT FOUND THEN
      PERFORM ops.raise_problem('not_found', 'There is no such turn in the conversation.', jsonb_build_object('turn_id', p_edits));
    END IF;
  ELSIF p_parent_id IS NOT NULL THEN
    SELECT a.id INTO v_parent
    FROM chat.messages AS a
    WHERE a.tenant_id = v_tenant AND a.id = p_parent_id AND a.conversation_id = p_conversation_id AND a.role = 'assistant';
    IF NOT FOUND THEN
      PERFORM ops.raise_problem('not_found', 'There is no such answer in the conversation.', jsonb_build_object('message_id', p_parent_id));
    END IF;
  ELSE
    SELECT a.id INTO v_parent
    FROM chat.messages AS a
    WHERE a.tenant_id = v_tenant AND a.conversation_id = p_conversation_id AND a.role = 'assistant'
    ORDER BY a.created_at DESC, a.id DESC
    LIMIT 1;
  END IF;
  RETURN v_parent;
END
$$;

COMMENT ON FUNCTION chat.place_in(uuid, uuid, uuid) IS
  'The message that a new question follows: the given answer, what the question of the turn p_edits follows, or the newest answer; NULL: it begins the conversation. Raises not_found, '
  'invalid_request. Internal.';
