-- requires: 008_ingestion_pipeline
-- It runs with the caller's rights. What remains is told by how many documents have ended since the oldest that waits came.
CREATE OR REPLACE FUNCTION rag.collection_progress(p_collection_id uuid)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH all_of_it AS (
    SELECT d.status, d.received_at, d.finished_at, d.chunks_total, d.chunks_embedded, d.chunks_failed
    FROM rag.documents AS d
    WHERE d.tenant_id = core.require_tenant() AND (p_collection_id IS NULL OR d.collection_id = p_collection_id)
  ), waiting AS (
    SELECT count(*) AS documents, min(a.received_at) AS since FROM all_of_it AS a WHERE a.status IN ('received', 'processing')
  ), ended AS (
    SELECT count(*) AS documents FROM all_of_it AS a, waiting AS w WHERE a.finished_at > w.since
  )
  SELECT jsonb_build_object(
    'documents', rag.count_documents(p_collection_id),
    'chunks_total', (SELECT coalesce(sum(a.chunks_total), 0) FROM all_of_it AS a),
    'chunks_embedded', (SELECT coalesce(sum(a.chunks_embedded), 0) FROM all_of_it AS a),
    'chunks_failed', (SELECT coalesce(sum(a.chunks_failed), 0) FROM all_of_it AS a),
    'remaining_seconds', (
      SELECT CASE
        WHEN w.documents = 0 THEN 0
        WHEN e.documents > 0 THEN ceil(extract(epoch FROM clock_timestamp() - w.since) / e.documents * w.documents)::integer
      END
      FROM waiting AS w, ended AS e))
$$;

COMMENT ON FUNCTION rag.collection_progress(uuid) IS
  'How far the documents of a collection are, or with NULL of all: {documents: rag.count_documents, chunks_total, chunks_embedded, chunks_failed, remaining_seconds (NULL: not known)}.';
GRANT EXECUTE ON FUNCTION rag.collection_progress(uuid) TO app;
