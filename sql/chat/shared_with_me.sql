-- requires: 000_core
-- With the owner's rights, because the policies of the conversations call it: one that read by itself would ask itself.
CREATE OR REPLACE FUNCTION chat.shared_with_me()
RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY(
    SELECT s.conversation_id FROM chat.shares AS s WHERE s.tenant_id = u.tenant_id AND s.user_id = u.id
    UNION
    SELECT s.conversation_id FROM chat.shares AS s WHERE s.tenant_id = u.tenant_id AND s.group_name = ANY (u.groups)
    UNION
    SELECT s.conversation_id FROM chat.shares AS s WHERE s.tenant_id = u.tenant_id AND s.whole_tenant)
  FROM core.users AS u
  WHERE u.tenant_id = core.current_tenant() AND u.id = core.current_user_id()
$$;

COMMENT ON FUNCTION chat.shared_with_me() IS 'The conversations that the current user may read besides the own ones; NULL without a user.';
GRANT EXECUTE ON FUNCTION chat.shared_with_me() TO app;
