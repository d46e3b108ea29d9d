-- requires: 000_core
CREATE OR REPLACE FUNCTION chat.share_conversation(
  p_conversation_id uuid, p_users uuid[] DEFAULT '{}', p_groups text[] DEFAULT '{}', p_whole_tenant boolean DEFAULT false
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_stranger uuid;
BEGIN
  PERFORM core.require_operation('chat.share');
  PERFORM FROM chat.conversations AS c
  WHERE c.tenant_id = v_tenant AND c.id = p_conversation_id AND c.user_id = core.require_user()
  FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such conversation.', jsonb_build_object('conversation_id', p_conversation_id));
  END IF;
  SELECT n.id INTO v_stranger
  FROM unnest(p_users) AS n (id)
  WHERE NOT EXISTS (SELECT FROM core.users AS u WHERE u.tenant_id = v_tenant AND u.id = n.id)
  LIMIT 1;
  IF FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such user.', jsonb_build_object('user_id', v_stranger));
  END IF;

  DELETE FROM chat.shares AS s WHERE s.tenant_id = v_tenant AND s.conversation_id = p_conversation_id;
  INSERT INTO chat.shares (tenant_id, conversation_id, user_id, group_name, whole_tenant)
  SELECT DISTINCT v_tenant, p_conversation_id, g.user_id, g.group_name, g.whole_tenant
  FROM (
    SELECT n.id, NULL, false FROM unnest(p_users) AS n (id)
    UNION ALL
    SELECT NULL, n.name, false FROM unnest(p_groups) AS n (name)
    UNION ALL
    SELECT NULL, NULL, true WHERE p_whole_tenant
  ) AS g (user_id, group_name, whole_tenant);
  PERFORM compliance.append(v_tenant, 'conversation.shared', p_conversation_id::text,
                            jsonb_build_object('users', p_users, 'groups', p_groups, 'whole_tenant', p_whole_tenant));
  RETURN chat.list_shares(p_conversation_id);
END
$$;

COMMENT ON FUNCTION chat.share_conversation(uuid, uuid[], text[], boolean) IS
  'Makes these the readers of a conversation of the current user, instead of those before; none: it is private again. Returns chat.list_shares; raises not_found.';
GRANT EXECUTE ON FUNCTION chat.share_conversation(uuid, uuid[], text[], boolean) TO app;
