-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.emit_received()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM events.emit(
    'com.enterprise-agents.ingestion.received.v1', new.tenant_id, new.id::text,
    jsonb_build_object(
      'region', ops.setting('region'), 'partitionkey', new.id,
      -- Before 017_long_ingestion there is no such column.
      'size', CASE WHEN (to_jsonb(new) ->> 'large')::boolean THEN 'large' ELSE 'small' END),
    jsonb_build_object('document_id', new.id, 'version', new.version));
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION rag.emit_received() IS
  'A document waits for its indexing: emits ingestion.received. Its attribute size, small or large, says who does it: ingestion-worker, or a job of its own.';

CREATE OR REPLACE TRIGGER emit_received
AFTER INSERT OR UPDATE OF emitted_at ON rag.documents
FOR EACH ROW EXECUTE FUNCTION rag.emit_received();
