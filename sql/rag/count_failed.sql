-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.count_failed(p_tenant uuid, p_document_id uuid)
RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  WITH failed AS (
    SELECT count(*)::integer AS number, (array_agg(q.error_code ORDER BY c.ordinal))[1] AS code,
      (array_agg(format('Passage %s: %s', c.ordinal, q.error_detail) ORDER BY c.ordinal))[1] AS detail
    FROM rag.embedding_queue AS q
    JOIN rag.embedding_models AS m ON m.id = q.model_id AND m.status = 'active'
    JOIN rag.chunks AS c ON c.tenant_id = p_tenant AND c.id = q.chunk_id AND c.live
    WHERE q.tenant_id = p_tenant AND q.document_id = p_document_id AND q.status = 'failed'
  )
  UPDATE rag.documents AS d
  SET chunks_failed = f.number, chunks_embedded = d.chunks_total - f.number, error_code = f.code, error_detail = left(f.detail, 2000), updated_at = now()
  FROM failed AS f
  WHERE d.tenant_id = p_tenant AND d.id = p_document_id AND d.status = 'indexed'
$$;

COMMENT ON FUNCTION rag.count_failed(uuid, uuid) IS 'Brings the counts of an indexed document, and the cause that it tells, to what its chunks are. Internal.';
