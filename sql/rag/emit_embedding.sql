-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.emit_embedding(p_tenant uuid, p_document_id uuid, p_version integer, p_chunks bigint)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  -- A share of 128 chunks is some seconds of work: enough to start a process for, and at most ten are asked for at once.
  SELECT events.emit(
    'com.enterprise-agents.embedding.requested.v1', p_tenant, p_document_id::text,
    jsonb_build_object('region', ops.setting('region')),
    jsonb_build_object('document_id', p_document_id, 'version', p_version))
  FROM generate_series(1, least(10, (p_chunks + 127) / 128))
$$;

COMMENT ON FUNCTION rag.emit_embedding(uuid, uuid, integer, bigint) IS
  'Asks for the vectors of chunks that wait, by an event for each 128: it names one document, and means that there is work for its tenant. Internal.';
