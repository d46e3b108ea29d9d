-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.emit_settled()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM events.emit(
    CASE new.status
      WHEN 'indexed' THEN 'com.enterprise-agents.ingestion.indexed.v1'
      ELSE 'com.enterprise-agents.ingestion.failed.v1'
    END,
    new.tenant_id, new.id::text,
    jsonb_build_object('region', ops.setting('region'), 'partitionkey', new.id),
    jsonb_strip_nulls(jsonb_build_object(
      'document_id', new.id, 'version', new.version, 'name', new.name,
      'collection', (SELECT c.name FROM rag.collections AS c WHERE c.tenant_id = new.tenant_id AND c.id = new.collection_id),
      'chunks', new.chunks_total, 'chunks_failed', new.chunks_failed, 'error_code', new.error_code)));
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION rag.emit_settled() IS 'A version of a document is indexed, or has failed: emits ingestion.indexed or ingestion.failed.';

CREATE OR REPLACE TRIGGER emit_settled
AFTER UPDATE OF status ON rag.documents
FOR EACH ROW WHEN (new.status IN ('indexed', 'failed') AND old.status <> new.status)
EXECUTE FUNCTION rag.emit_settled();
