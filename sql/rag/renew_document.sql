-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.renew_document(p_document_id uuid, p_version integer, p_worker text, p_stage text, p_lease interval)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE rag.documents AS d
  SET stage = p_stage, leased_until = clock_timestamp() + p_lease, updated_at = now()
  WHERE d.tenant_id = core.require_tenant() AND d.id = p_document_id AND d.version = p_version
    AND d.status = 'processing' AND d.leased_by = p_worker;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('lease_lost', 'The document was replaced, deleted or taken over by another worker.');
  END IF;
END
$$;

COMMENT ON FUNCTION rag.renew_document(uuid, integer, text, text, interval) IS
  'Tells at which stage a worker is with a document, extracting or chunking, and renews its lease; raises lease_lost.';
GRANT EXECUTE ON FUNCTION rag.renew_document(uuid, integer, text, text, interval) TO app;
