-- requires: 012_budget_metrics
-- What was spent stays in the ledger, and that it was deleted in the audit log.
CREATE OR REPLACE FUNCTION chat.delete_conversation(p_conversation_id uuid)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_turns integer;
BEGIN
  PERFORM core.require_operation('chat.manage');
  -- The user before the conversation, as whoever begins a turn or erases the user does.
  PERFORM FROM core.users AS u WHERE u.tenant_id = v_tenant AND u.id = core.require_user() FOR KEY SHARE;
  PERFORM chat.own_conversation(p_conversation_id);
  PERFORM chat.abandon_turns(core.require_user(), p_conversation_id);
  DELETE FROM budget.reservations AS r
  USING chat.turns AS t
  WHERE t.tenant_id = v_tenant AND t.conversation_id = p_conversation_id AND r.tenant_id = t.tenant_id AND r.turn_id = t.id;
  GET DIAGNOSTICS v_turns = ROW_COUNT;
  DELETE FROM chat.conversations AS c WHERE c.tenant_id = v_tenant AND c.id = p_conversation_id;
  PERFORM compliance.append(v_tenant, 'conversation.deleted', p_conversation_id::text, jsonb_build_object('turns', v_turns));
END
$$;

COMMENT ON FUNCTION chat.delete_conversation(uuid) IS
  'Deletes a conversation of the current user with all that is in it. Turns that are still generated end here (chat.abandon_turns). Raises not_found.';
GRANT EXECUTE ON FUNCTION chat.delete_conversation(uuid) TO app;
