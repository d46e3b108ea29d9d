-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.fail_document(
  p_document_id uuid, p_version integer, p_worker text, p_code text, p_detail text, p_event_source text, p_event_id text
)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE rag.documents AS d
  SET status = 'failed', error_code = p_code, error_detail = left(p_detail, 2000), leased_by = NULL, leased_until = NULL,
      updated_at = now()
  WHERE d.tenant_id = core.require_tenant() AND d.id = p_document_id AND d.version = p_version
    AND d.status = 'processing' AND d.leased_by = p_worker;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('lease_lost', 'The document was replaced, deleted or taken over by another worker.');
  END IF;
  PERFORM events.mark_consumed('ingestion', p_event_source, p_event_id);
END
$$;

COMMENT ON FUNCTION rag.fail_document(uuid, integer, text, text, text, text, text) IS
  'Ends a document''s indexing with a cause; chunks of an older version keep answering. Raises lease_lost.';
GRANT EXECUTE ON FUNCTION rag.fail_document(uuid, integer, text, text, text, text, text) TO app;
