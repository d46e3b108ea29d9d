CREATE TABLE rag.buckets (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  bucket text NOT NULL CHECK (bucket <> '' AND length(bucket) <= 255),
  prefix text NOT NULL DEFAULT '' CHECK (length(prefix) <= 1024),
  collection text NOT NULL CHECK (collection ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
  assigned boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  UNIQUE (bucket, prefix)
);
COMMENT ON TABLE rag.buckets IS
  'Which objects of which bucket are whose documents, and in which collection: the longest prefix of a key decides. The platform''s own credentials read them.';
COMMENT ON COLUMN rag.buckets.prefix IS 'Keys that begin so; what follows is the document''s name. Empty: all of the bucket.';
COMMENT ON COLUMN rag.buckets.collection IS 'Its name; made with the first object.';
COMMENT ON COLUMN rag.buckets.assigned IS
  'The platform''s administrator has given these keys to the tenant. Without it: the tenant''s administrator has divided what was given.';

CREATE TABLE rag.bucket_objects (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  bucket text NOT NULL,
  object_key text NOT NULL,
  sequencer text,
  document_id uuid,
  changed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, bucket, object_key),
  FOREIGN KEY (tenant_id, document_id) REFERENCES rag.documents ON DELETE SET NULL (document_id)
);
CREATE INDEX bucket_objects_document ON rag.bucket_objects (tenant_id, document_id) WHERE document_id IS NOT NULL;
CREATE INDEX bucket_objects_gone ON rag.bucket_objects (tenant_id, changed_at) WHERE document_id IS NULL;
COMMENT ON TABLE rag.bucket_objects IS 'The newest notification of each object that was dealt with: they come in any order, and an older one must not undo a newer one.';
COMMENT ON COLUMN rag.bucket_objects.sequencer IS
  'Hexadecimal, rising with each change of the object; the shorter of two is to be filled with zeros on the right. NULL: the store told none.';
COMMENT ON COLUMN rag.bucket_objects.document_id IS 'NULL: the object or its document is gone. The row is kept for a day longer, for notifications that are late.';

DO $$
DECLARE
  v_name text;
BEGIN
  FOREACH v_name IN ARRAY ARRAY['rag.buckets', 'rag.bucket_objects'] LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', v_name);
    EXECUTE format('CREATE POLICY tenant ON %s TO app USING (tenant_id = (SELECT core.current_tenant()))', v_name);
    EXECUTE format('COMMENT ON POLICY tenant ON %s IS %L', v_name,
                   'The functions'' role has no right to the table; the policy stands against the day when someone grants one.');
    EXECUTE format('CREATE POLICY dba ON %s FOR SELECT TO dba_readonly USING (true)', v_name);
    EXECUTE format('COMMENT ON POLICY dba ON %s IS %L', v_name, 'Database administrators read every tenant.');
    EXECUTE format('GRANT SELECT ON %s TO dba_readonly', v_name);
  END LOOP;
END
$$;
