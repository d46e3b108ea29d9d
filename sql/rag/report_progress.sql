-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.report_progress(
  p_document_id uuid, p_version integer, p_worker text, p_total integer, p_embedded integer, p_lease interval
)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Batches finish in any order, and so do their reports.
  UPDATE rag.documents AS d
  SET stage = CASE WHEN p_total = 0 THEN d.stage ELSE 'embedding' END, chunks_total = p_total, chunks_embedded = greatest(d.chunks_embedded, p_embedded),
      leased_until = clock_timestamp() + p_lease, updated_at = now()
  WHERE d.tenant_id = core.require_tenant() AND d.id = p_document_id AND d.version = p_version
    AND d.status = 'processing' AND d.leased_by = p_worker;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('lease_lost', 'The document was replaced, deleted or taken over by another worker.');
  END IF;
END
$$;

COMMENT ON FUNCTION rag.report_progress(uuid, integer, text, integer, integer, interval) IS
  'Tells how many of a document''s chunks are embedded, and renews the lease; raises lease_lost.';
GRANT EXECUTE ON FUNCTION rag.report_progress(uuid, integer, text, integer, integer, interval) TO app;
