-- requires: 017_long_ingestion
CREATE OR REPLACE FUNCTION rag.fail_document(
  p_document_id uuid, p_version integer, p_worker text, p_code text, p_detail text, p_event_source text, p_event_id text
)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_document rag.documents;
  v_outcome text := 'failed';
BEGIN
  SELECT * INTO v_document
  FROM rag.documents AS d
  WHERE d.tenant_id = core.require_tenant() AND d.id = p_document_id AND d.version = p_version
    AND d.status = 'processing' AND d.leased_by = p_worker
  FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('lease_lost', 'The document was replaced, deleted or taken over by another worker.');
  END IF;
  IF p_code IN ('extraction_timeout', 'extraction_out_of_memory') AND NOT v_document.large AND v_document.attempts < v_document.max_attempts THEN
    -- What a Service has not the time or the memory for, a job of its own may have.
    v_outcome := 'enlarged';
    UPDATE rag.documents AS d
    SET status = 'received', large = true, emitted_at = clock_timestamp(), leased_by = NULL, leased_until = NULL, updated_at = now()
    WHERE d.tenant_id = v_document.tenant_id AND d.id = p_document_id;
  ELSE
    UPDATE rag.documents AS d
    SET status = 'failed', error_code = p_code, error_detail = left(p_detail, 2000), leased_by = NULL, leased_until = NULL, updated_at = now()
    WHERE d.tenant_id = v_document.tenant_id AND d.id = p_document_id;
  END IF;
  PERFORM events.mark_consumed('ingestion', p_event_source, p_event_id);
  RETURN v_outcome;
END
$$;

COMMENT ON FUNCTION rag.fail_document(uuid, integer, text, text, text, text, text) IS
  'Ends an attempt at a document with a cause. Returns failed: the indexing has ended, and chunks of an older version keep answering; or enlarged: it took longer, or more memory, than a '
  'Service allows, and begins again as a job of its own. Raises lease_lost.';
GRANT EXECUTE ON FUNCTION rag.fail_document(uuid, integer, text, text, text, text, text) TO app;
