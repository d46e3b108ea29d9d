-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.settle_document(p_tenant uuid, p_document_id uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_model integer := rag.hold_model();
BEGIN
  -- What no vector could be had for before may have one now.
  UPDATE rag.documents AS d
  SET status = 'processing', chunks_failed = 0, error_code = NULL, error_detail = NULL, updated_at = now(),
      chunks_embedded = (
        SELECT count(*) FROM rag.embedding_queue AS q
        WHERE q.tenant_id = d.tenant_id AND q.document_id = d.id AND q.version = d.version AND q.status = 'done' AND q.model_id = v_model)
  WHERE d.tenant_id = p_tenant AND d.id = p_document_id AND d.stage = 'embedding' AND d.status IN ('processing', 'failed')
    AND EXISTS (SELECT FROM rag.chunks AS c WHERE c.tenant_id = d.tenant_id AND c.document_id = d.id AND c.version = d.version);
  PERFORM rag.finish_document(p_tenant, p_document_id), rag.count_failed(p_tenant, p_document_id);
END
$$;

COMMENT ON FUNCTION rag.settle_document(uuid, uuid) IS
  'Brings a document to what its queued chunks are, after these have changed all at once: one that had failed for want of vectors goes on, one that waits for none is ended. Internal.';
