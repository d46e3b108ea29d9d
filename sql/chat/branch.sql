-- requires: 003_conversation_fields
CREATE OR REPLACE FUNCTION chat.branch(p_conversation_id uuid, p_leaf_id uuid)
RETURNS SETOF chat.messages
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH RECURSIVE upwards AS (
    SELECT m.id, m.parent_id, 0 AS distance
    FROM chat.messages AS m
    WHERE m.tenant_id = core.require_tenant() AND m.conversation_id = p_conversation_id AND m.id = p_leaf_id
    UNION ALL
    SELECT m.id, m.parent_id, u.distance + 1
    FROM upwards AS u
    JOIN chat.messages AS m ON m.tenant_id = core.require_tenant() AND m.id = u.parent_id
  )
  SELECT m.*
  FROM upwards AS u
  JOIN chat.messages AS m ON m.tenant_id = core.require_tenant() AND m.id = u.id
  ORDER BY u.distance DESC
$$;

COMMENT ON FUNCTION chat.branch(uuid, uuid) IS 'The messages of a conversation from its beginning to one of them, in this order; none, if it is not one of them.';
GRANT EXECUTE ON FUNCTION chat.branch(uuid, uuid) TO app;
