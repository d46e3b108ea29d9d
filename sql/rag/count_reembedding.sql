-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.count_reembedding()
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'name', m.name, 'width', m.width,
    'chunks', (SELECT count(*) FROM rag.chunks),
    'passed', (SELECT count(*) FROM rag.chunks AS c WHERE (c.tenant_id, c.id) <= (m.queued_tenant, m.queued_chunk)),
    'error', (SELECT max(q.error_code || ': ' || q.error_detail) FROM rag.embedding_queue AS q WHERE q.model_id = m.id AND q.status = 'failed'),
    'failed', (
      SELECT coalesce(jsonb_object_agg(f.error_code, f.chunks), '{}')
      FROM (
        SELECT q.error_code, count(*) AS chunks FROM rag.embedding_queue AS q WHERE q.model_id = m.id AND q.status = 'failed' GROUP BY q.error_code
      ) AS f))
  FROM rag.embedding_models AS m
  WHERE m.status = 'building'
$$;

COMMENT ON FUNCTION rag.count_reembedding() IS
  'How far a re-embedding is: {name, width, chunks: of all tenants, passed: those that were queued, failed: chunks set aside, by code, error: of one of them}; NULL when there is none.';
