-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.release_document(p_document_id uuid, p_version integer, p_worker text)
RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  UPDATE rag.documents AS d
  SET status = 'received', leased_by = NULL, leased_until = NULL, updated_at = now()
  WHERE d.tenant_id = core.require_tenant() AND d.id = p_document_id AND d.version = p_version
    AND d.status = 'processing' AND d.leased_by = p_worker
$$;

COMMENT ON FUNCTION rag.release_document(uuid, integer, text) IS
  'Gives the lease back after a failure that may pass: the broker''s retry or the sweeper tries again.';
GRANT EXECUTE ON FUNCTION rag.release_document(uuid, integer, text) TO app;
