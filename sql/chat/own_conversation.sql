-- requires: 003_conversation_fields
-- Not FOR UPDATE: whoever ends a turn of it holds the turn's job and writes an answer that refers to this row, and must not wait for one who
-- waits for the job. Whoever begins a turn in it writes this row first, and waits.
CREATE OR REPLACE FUNCTION chat.own_conversation(p_conversation_id uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM FROM chat.conversations AS c
  WHERE c.tenant_id = core.require_tenant() AND c.id = p_conversation_id AND c.user_id = core.require_user()
  FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such conversation.', jsonb_build_object('conversation_id', p_conversation_id));
  END IF;
END
$$;

COMMENT ON FUNCTION chat.own_conversation(uuid) IS
  'Holds a conversation of the current user, so that no turn begins in it and nobody else changes it; raises not_found. Internal.';
