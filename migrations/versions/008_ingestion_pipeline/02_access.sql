-- Collections with an access of their own.
ALTER TABLE rag.collections
  ADD COLUMN visibility text NOT NULL DEFAULT 'tenant' CHECK (visibility IN ('tenant', 'restricted')),
  ADD COLUMN created_by uuid,
  ADD FOREIGN KEY (tenant_id, created_by) REFERENCES core.users ON DELETE SET NULL (created_by);
CREATE INDEX collections_creator ON rag.collections (tenant_id, created_by) WHERE created_by IS NOT NULL;
COMMENT ON COLUMN rag.collections.visibility IS 'tenant: everybody of the tenant reads and writes it, as far as their roles allow; restricted: only those below.';
COMMENT ON COLUMN rag.collections.created_by IS 'Who made it on purpose, and manages it besides the tenant''s administrators; NULL for one that an upload made.';

CREATE TABLE rag.collection_grants (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  collection_id uuid NOT NULL,
  user_id uuid,
  group_name text CHECK (group_name <> '' AND length(group_name) <= 255),
  role core.role,
  access text NOT NULL CHECK (access IN ('read', 'write')),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  UNIQUE NULLS NOT DISTINCT (tenant_id, collection_id, user_id, group_name, role),
  FOREIGN KEY (tenant_id, collection_id) REFERENCES rag.collections ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, user_id) REFERENCES core.users ON DELETE CASCADE,
  CHECK (num_nonnulls(user_id, group_name, role) = 1)
);
CREATE INDEX collection_grants_user ON rag.collection_grants (tenant_id, user_id) WHERE user_id IS NOT NULL;
COMMENT ON TABLE rag.collection_grants IS
  'Who may read a restricted collection besides its creator and the tenant''s administrators: a user, whoever has a group in the token, or whoever has a role.';
COMMENT ON COLUMN rag.collection_grants.access IS 'write holds read.';

-- What the policies compare with; sql/rag/readable_collections.sql is its present text.
CREATE FUNCTION rag.readable_collections() RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT NULL::uuid[] $$;
GRANT EXECUTE ON FUNCTION rag.readable_collections() TO app;

DO $$
DECLARE
  protected record;
  c_tenant constant text := 'tenant_id = (SELECT core.current_tenant())';
  c_readable constant text := c_tenant || ' AND %s = ANY ((SELECT rag.readable_collections())::uuid[])';
  c_parent constant text := c_tenant || ' AND EXISTS (SELECT FROM %1$s AS p WHERE p.tenant_id = %2$s.tenant_id AND p.id = %2$s.%3$s)';
BEGIN
  FOR protected IN
    SELECT * FROM (VALUES
      ('rag.collections', format(c_readable, 'id'), 'The functions see the collections that the current user may read; without a user, all of the tenant.'),
      ('rag.documents', format(c_readable, 'collection_id'), 'A document goes with its collection.'),
      ('rag.contents', format(c_parent, 'rag.documents', 'contents', 'document_id'), 'A content goes with its document.'),
      ('rag.chunks', format(c_parent, 'rag.documents', 'chunks', 'document_id'), 'A passage goes with its document.'),
      ('rag.embeddings', format(c_parent, 'rag.documents', 'embeddings', 'document_id'), 'A vector goes with its document.')
    ) AS t (name, readable, meaning)
  LOOP
    EXECUTE format('ALTER POLICY tenant ON %s USING (%s) WITH CHECK (%s)', protected.name, protected.readable, protected.readable);
    EXECUTE format('COMMENT ON POLICY tenant ON %s IS %L', protected.name, protected.meaning);
  END LOOP;
END
$$;

ALTER TABLE rag.collection_grants ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON rag.collection_grants TO app
USING (tenant_id = (SELECT core.current_tenant()) AND EXISTS (
  SELECT FROM rag.collections AS p
  WHERE p.tenant_id = collection_grants.tenant_id AND p.id = collection_grants.collection_id));
COMMENT ON POLICY tenant ON rag.collection_grants IS 'A grant goes with its collection. The functions'' role has no right to the table; the policy stands against the day when someone grants one.';
CREATE POLICY dba ON rag.collection_grants FOR SELECT TO dba_readonly USING (true);
COMMENT ON POLICY dba ON rag.collection_grants IS 'Database administrators read every tenant.';
GRANT SELECT ON rag.collection_grants TO dba_readonly;

-- How long each step has taken, and the same bytes under another name.
ALTER TABLE rag.documents
  ADD COLUMN received_at timestamptz NOT NULL DEFAULT now(),
  ADD COLUMN stage_at timestamptz NOT NULL DEFAULT now(),
  ADD COLUMN finished_at timestamptz;
CREATE INDEX documents_content ON rag.documents (tenant_id, collection_id, content_sha256);
COMMENT ON COLUMN rag.documents.received_at IS 'When the newest version came; created_at is the first one''s.';
COMMENT ON COLUMN rag.documents.stage_at IS 'When status or stage last changed, kept by the trigger note_stage: what is left is estimated from it.';
COMMENT ON COLUMN rag.documents.finished_at IS 'When the newest version was indexed or failed; NULL before.';
