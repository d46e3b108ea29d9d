-- requires: 008_ingestion_pipeline
-- It runs with the caller's rights. What remains is known while chunks are embedded, by how many were since the first; a guess at
-- the steps before would be none of the document's own.
CREATE OR REPLACE FUNCTION rag.document_state(p_document rag.documents)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'id', p_document.id,
    'collection', (SELECT c.name FROM rag.collections AS c WHERE c.tenant_id = p_document.tenant_id AND c.id = p_document.collection_id),
    'name', p_document.name, 'title', p_document.title, 'media_type', split_part(p_document.media_type, ';', 1),
    'language', p_document.language, 'metadata', p_document.metadata, 'dated', p_document.dated,
    'size_bytes', p_document.size_bytes, 'sha256', encode(p_document.content_sha256, 'hex'),
    'version', p_document.version, 'live_version', p_document.live_version,
    'status', p_document.status, 'stage', p_document.stage, 'pages', p_document.pages,
    'chunks_total', p_document.chunks_total, 'chunks_embedded', p_document.chunks_embedded, 'chunks_failed', p_document.chunks_failed,
    'remaining_seconds', CASE
      WHEN p_document.status = 'processing' AND p_document.stage = 'embedding' AND p_document.chunks_embedded > 0 THEN
        ceil(extract(epoch FROM clock_timestamp() - p_document.stage_at) / p_document.chunks_embedded
             * (p_document.chunks_total - p_document.chunks_embedded - p_document.chunks_failed))::integer
    END,
    'error_code', p_document.error_code, 'error_detail', p_document.error_detail, 'attempts', p_document.attempts,
    'duplicate_of', (
      SELECT o.id FROM rag.documents AS o
      WHERE o.tenant_id = p_document.tenant_id AND o.collection_id = p_document.collection_id
        AND o.content_sha256 = p_document.content_sha256 AND (o.created_at, o.id) < (p_document.created_at, p_document.id)
      ORDER BY o.created_at, o.id
      LIMIT 1),
    'created_at', p_document.created_at, 'received_at', p_document.received_at, 'stage_at', p_document.stage_at,
    'finished_at', p_document.finished_at, 'updated_at', p_document.updated_at, 'etag', rag.etag(p_document))
$$;

COMMENT ON FUNCTION rag.document_state(rag.documents) IS
  'What is told of a document: what it is, how far it is, since when, and for how many seconds more as far as that is known. duplicate_of: an older document of the collection with the same bytes.';
GRANT EXECUTE ON FUNCTION rag.document_state(rag.documents) TO app;
