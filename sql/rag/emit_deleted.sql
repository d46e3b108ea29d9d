-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.emit_deleted()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- A tenant that is deleted takes its events along.
  IF EXISTS (SELECT FROM core.tenants AS t WHERE t.id = old.tenant_id) THEN
    PERFORM events.emit(
      'com.enterprise-agents.document.deleted.v1', old.tenant_id, old.id::text,
      jsonb_build_object('region', ops.setting('region'), 'partitionkey', old.id),
      jsonb_build_object(
        'document_id', old.id, 'version', old.version, 'name', old.name,
        'collection', (SELECT c.name FROM rag.collections AS c WHERE c.tenant_id = old.tenant_id AND c.id = old.collection_id)));
  END IF;
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION rag.emit_deleted() IS 'A document is gone, and its passages with it: emits document.deleted.';

CREATE OR REPLACE TRIGGER emit_deleted
AFTER DELETE ON rag.documents
FOR EACH ROW EXECUTE FUNCTION rag.emit_deleted();
