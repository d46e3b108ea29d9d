-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.retry_document(p_document_id uuid)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_model integer := rag.hold_model();
  v_document rag.documents;
  v_count bigint;
BEGIN
  v_document := rag.document_to_write(p_document_id);
  IF v_document.status <> 'failed' AND v_document.chunks_failed = 0 THEN
    PERFORM ops.raise_problem('conflict', 'Nothing of the document has failed.', jsonb_build_object('document_id', p_document_id, 'status', v_document.status));
  END IF;
  UPDATE rag.embedding_queue AS q
  SET status = 'waiting', attempts = 0, due_at = '-infinity', error_code = NULL, error_detail = NULL
  WHERE q.tenant_id = v_tenant AND q.document_id = p_document_id AND q.version = v_document.version AND q.status = 'failed';
  GET DIAGNOSTICS v_count = ROW_COUNT;
  IF v_document.status = 'indexed' THEN
    PERFORM rag.emit_embedding(v_tenant, p_document_id, v_document.version, v_count);
    PERFORM rag.count_failed(v_tenant, p_document_id);
  ELSIF EXISTS (
    SELECT FROM rag.chunks AS c WHERE c.tenant_id = v_tenant AND c.document_id = p_document_id AND c.version = v_document.version
  ) THEN
    -- Its chunks are there: only what has no vector is asked for again.
    UPDATE rag.documents AS d
    SET status = 'processing', stage = 'embedding', chunks_failed = 0, error_code = NULL, error_detail = NULL, updated_at = now(),
        chunks_embedded = (
          SELECT count(*) FROM rag.embedding_queue AS q
          WHERE q.tenant_id = v_tenant AND q.document_id = p_document_id AND q.version = d.version AND q.status = 'done' AND q.model_id = v_model)
    WHERE d.tenant_id = v_tenant AND d.id = p_document_id;
    PERFORM rag.emit_embedding(v_tenant, p_document_id, v_document.version, v_count), rag.finish_document(v_tenant, p_document_id);
  ELSE
    UPDATE rag.documents AS d
    SET status = 'received', stage = 'received', attempts = 0, error_code = NULL, error_detail = NULL, emitted_at = clock_timestamp(), updated_at = now()
    WHERE d.tenant_id = v_tenant AND d.id = p_document_id;
  END IF;
END
$$;

COMMENT ON FUNCTION rag.retry_document(uuid) IS
  'Begins again what has failed of a document: its failed chunks, where it has any, or else the whole indexing. Raises not_found, forbidden, conflict.';
GRANT EXECUTE ON FUNCTION rag.retry_document(uuid) TO app;
