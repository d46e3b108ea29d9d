-- Policies of the functions' role. The sub-selects make each comparison an initplan, evaluated once a statement. An unset
-- tenant or user is NULL and matches no row. The role has no right to write a table; the checks stand against the day when
-- someone grants one.
DO $$
DECLARE
  protected record;
  c_tenant constant text := 'tenant_id = (SELECT core.current_tenant())';
  c_mine constant text := c_tenant || ' AND user_id = (SELECT core.current_user_id())';
  c_readable constant text := c_tenant
    || ' AND (user_id = (SELECT core.current_user_id()) OR %s = ANY ((SELECT chat.shared_with_me())::uuid[]))';
  c_parent constant text := c_tenant || ' AND EXISTS (SELECT FROM %1$s AS p WHERE p.tenant_id = %2$s.tenant_id AND p.id = %2$s.%3$s)';
BEGIN
  FOR protected IN
    SELECT * FROM (VALUES
      -- Everybody of the tenant.
      ('core.tenants', 'id = (SELECT core.current_tenant())', NULL, 'The functions see and write the current tenant only.'),
      ('core.users', c_tenant, NULL, NULL),
      ('core.role_grants', c_tenant, NULL, NULL),
      ('rag.collections', c_tenant, NULL, NULL),
      ('rag.documents', c_tenant, NULL, NULL),
      ('rag.contents', c_tenant, NULL, NULL),
      ('rag.chunks', c_tenant, NULL, NULL),
      ('rag.embeddings', c_tenant, NULL, NULL),
      ('events.outbox', c_tenant, NULL, NULL),
      ('events.inbox', c_tenant, NULL, NULL),
      ('events.dead_letters', c_tenant, NULL, NULL),
      ('compliance.audit_heads', c_tenant, NULL, NULL),
      ('compliance.audit_log', c_tenant, NULL, NULL),
      -- The owner, and those with whom the conversation is shared; only the owner writes.
      ('chat.conversations', format(c_readable, 'id'), c_mine, 'A conversation is its owner''s, and read by those it is shared with.'),
      ('chat.turns', format(c_readable, 'conversation_id'), c_mine, 'A turn goes with its conversation.'),
      ('chat.shares', format(c_parent, 'chat.conversations', 'shares', 'conversation_id'), NULL, 'A share goes with its conversation.'),
      ('chat.messages', format(c_parent, 'chat.turns', 'messages', 'turn_id'), NULL, 'A message goes with its turn.'),
      ('chat.passages', format(c_parent, 'chat.turns', 'passages', 'turn_id'), NULL, 'A passage goes with its turn.'),
      ('chat.citations', format(c_parent, 'chat.messages', 'citations', 'message_id'), NULL, 'A citation goes with its message.'),
      ('inference.jobs', format(c_parent, 'chat.turns', 'jobs', 'turn_id'), NULL, 'A job goes with its turn.')
    ) AS t (name, readable, writable, meaning)
  LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', protected.name);
    EXECUTE format('CREATE POLICY tenant ON %s TO app USING (%s) WITH CHECK (%s)',
                   protected.name, protected.readable, coalesce(protected.writable, protected.readable));
    EXECUTE format('COMMENT ON POLICY tenant ON %s IS %L', protected.name,
                   coalesce(protected.meaning, 'The functions see and write the rows of the current tenant only.'));
    EXECUTE format('CREATE POLICY dba ON %s FOR SELECT TO dba_readonly USING (true)', protected.name);
    EXECUTE format('COMMENT ON POLICY dba ON %s IS %L', protected.name, 'Database administrators read every tenant.');
    EXECUTE format('GRANT SELECT ON %s TO dba_readonly', protected.name);
  END LOOP;
END
$$;
