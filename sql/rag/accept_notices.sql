-- requires: 008_ingestion_pipeline
-- The store that notifies is answered at once; fetching is the worker's, by an event for each object.
CREATE OR REPLACE FUNCTION rag.accept_notices(p_notices jsonb)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_accepted integer;
BEGIN
  PERFORM core.require_operation('documents.write');
  SELECT count(events.emit(
    'com.enterprise-agents.ingestion.submitted.v1', v_tenant, v_tenant::text,
    jsonb_build_object('region', ops.setting('region')), jsonb_build_object('object', n.notice)))
  INTO v_accepted
  FROM jsonb_array_elements(p_notices) AS n (notice)
  WHERE rag.bucket_target(n.notice ->> 'bucket', n.notice ->> 'key') ->> 'tenant_id' = v_tenant::text;
  RETURN v_accepted;
END
$$;

COMMENT ON FUNCTION rag.accept_notices(jsonb) IS
  'Asks for the objects that a store''s notification names, [{bucket, key, removed, sequencer}], as far as they are the current tenant''s; returns how many are.';
GRANT EXECUTE ON FUNCTION rag.accept_notices(jsonb) TO app;
