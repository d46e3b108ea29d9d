-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.finish_document(p_tenant uuid, p_document_id uuid)
RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_model integer := rag.hold_model();
  v_document rag.documents;
  v_total integer;
  v_failed integer;
  v_cause record;
  v_chunks uuid[];
BEGIN
  -- Of two workers that store the last vectors at the same time the second one waits here, and sees what the first has stored.
  SELECT * INTO v_document FROM rag.documents AS d WHERE d.tenant_id = p_tenant AND d.id = p_document_id FOR NO KEY UPDATE;
  IF NOT FOUND OR v_document.status <> 'processing' OR v_document.stage <> 'embedding' THEN
    RETURN NULL;
  END IF;
  IF EXISTS (
    SELECT FROM rag.embedding_queue AS q
    WHERE q.tenant_id = p_tenant AND q.document_id = p_document_id AND q.status = 'waiting' AND q.model_id = v_model
      AND q.version = v_document.version
  ) THEN
    RETURN NULL;
  END IF;

  SELECT count(*), count(*) FILTER (WHERE q.status = 'failed') INTO v_total, v_failed
  FROM rag.chunks AS c
  LEFT JOIN rag.embedding_queue AS q ON q.tenant_id = p_tenant AND q.chunk_id = c.id AND q.model_id = v_model
  WHERE c.tenant_id = p_tenant AND c.document_id = p_document_id AND c.version = v_document.version;
  SELECT q.error_code AS code, format('Passage %s: %s', c.ordinal, q.error_detail) AS detail INTO v_cause
  FROM rag.embedding_queue AS q
  JOIN rag.chunks AS c ON c.tenant_id = p_tenant AND c.id = q.chunk_id
  WHERE q.tenant_id = p_tenant AND q.document_id = p_document_id AND q.status = 'failed' AND q.model_id = v_model
    AND q.version = v_document.version
  ORDER BY q.error_code <> 'embedding_unavailable', c.ordinal
  LIMIT 1;

  UPDATE rag.documents AS d
  SET chunks_total = v_total, chunks_embedded = v_total - v_failed, chunks_failed = v_failed, error_code = v_cause.code,
      error_detail = left(v_cause.detail, 2000), updated_at = now(),
      status = CASE WHEN v_cause.code = 'embedding_unavailable' OR v_failed >= v_total THEN 'failed' ELSE 'indexed' END
  WHERE d.tenant_id = p_tenant AND d.id = p_document_id
  RETURNING * INTO v_document;
  IF v_document.status = 'failed' THEN
    RETURN 'failed';
  END IF;

  -- In one transaction: a search sees the old version or the new one, never a mix.
  DELETE FROM rag.chunks AS c WHERE c.tenant_id = p_tenant AND c.document_id = p_document_id AND c.version <> v_document.version;
  DELETE FROM rag.contents AS c WHERE c.tenant_id = p_tenant AND c.document_id = p_document_id AND c.version <> v_document.version;
  WITH published AS (
    UPDATE rag.chunks AS c SET live = true
    WHERE c.tenant_id = p_tenant AND c.document_id = p_document_id
    RETURNING c.id
  )
  SELECT array_agg(p.id) INTO v_chunks FROM published AS p;
  PERFORM rag.place_vectors(p_tenant, v_chunks);
  UPDATE rag.documents AS d SET stage = 'indexed', live_version = d.version WHERE d.tenant_id = p_tenant AND d.id = p_document_id;
  RETURN 'indexed';
END
$$;

COMMENT ON FUNCTION rag.finish_document(uuid, uuid) IS
  'Ends the indexing of a document once none of its chunks waits for a vector: puts the version in the place of the older one (indexed), or says why it cannot be found (failed). '
  'NULL: there was nothing to end. Internal.';
