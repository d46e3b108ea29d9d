-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.clear_queue()
RETURNS bigint
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  WITH useless AS (
    SELECT q.tenant_id, q.chunk_id, q.model_id
    FROM rag.embedding_queue AS q
    WHERE q.model_id IN (SELECT m.id FROM rag.embedding_models AS m WHERE m.status IN ('retired', 'cancelled'))
    LIMIT 5000
    FOR UPDATE SKIP LOCKED
  ), cleared AS (
    DELETE FROM rag.embedding_queue AS q
    USING useless AS u
    WHERE q.tenant_id = u.tenant_id AND q.chunk_id = u.chunk_id AND q.model_id = u.model_id
    RETURNING 1
  )
  SELECT count(*) FROM cleared
$$;

COMMENT ON FUNCTION rag.clear_queue() IS 'Takes chunks out of the queue, up to 5,000, that wait for a model that is not used any more. Returns how many. For the sweeper and make reembed.';
