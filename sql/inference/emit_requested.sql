-- requires: 000_core
CREATE OR REPLACE FUNCTION inference.emit_requested()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM events.emit(
    'com.enterprise-agents.inference.requested.v1', new.tenant_id, new.turn_id::text,
    jsonb_build_object('tier', new.tier, 'region', ops.setting('region'), 'partitionkey', new.turn_id,
                       'traceparent', new.traceparent),
    jsonb_build_object('job_id', new.id, 'turn_id', new.turn_id));
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION inference.emit_requested() IS 'A job waits for a worker: emits inference.requested.';

CREATE OR REPLACE TRIGGER emit_requested
AFTER INSERT OR UPDATE OF emitted_at ON inference.jobs
FOR EACH ROW WHEN (new.status = 'queued') EXECUTE FUNCTION inference.emit_requested();
