-- One policy a table, the same everywhere: the row's tenant is the statement's tenant. The sub-select makes it
-- an initplan, evaluated once a statement. An unset tenant is NULL and matches no row. The functions' role has no right
-- to write a table; the check stands against the day when someone grants one.
DO $$
DECLARE
  protected record;
BEGIN
  FOR protected IN
    SELECT * FROM (VALUES
      ('core.tenants', 'id'), ('core.users', 'tenant_id'),
      ('rag.collections', 'tenant_id'), ('rag.documents', 'tenant_id'), ('rag.chunks', 'tenant_id'),
      ('chat.conversations', 'tenant_id'), ('chat.turns', 'tenant_id'), ('chat.messages', 'tenant_id'),
      ('chat.passages', 'tenant_id'), ('chat.citations', 'tenant_id'),
      ('inference.jobs', 'tenant_id'),
      ('events.outbox', 'tenant_id'), ('events.inbox', 'tenant_id'), ('events.dead_letters', 'tenant_id')
    ) AS t (name, tenant_column)
  LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', protected.name);
    EXECUTE format(
      'CREATE POLICY tenant ON %s TO app USING (%2$I = (SELECT core.current_tenant())) '
      'WITH CHECK (%2$I = (SELECT core.current_tenant()))', protected.name, protected.tenant_column);
    EXECUTE format('COMMENT ON POLICY tenant ON %s IS %L', protected.name, 'The functions see and write the rows of the current tenant only.');
    EXECUTE format('CREATE POLICY dba ON %s FOR SELECT TO dba_readonly USING (true)', protected.name);
    EXECUTE format('COMMENT ON POLICY dba ON %s IS %L', protected.name, 'Database administrators read every tenant.');
    EXECUTE format('GRANT SELECT ON %s TO dba_readonly', protected.name);
  END LOOP;
END
$$;
