-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.reembedding_waits(p_tolerated bigint)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN m.queued_tenant IS DISTINCT FROM 'ffffffff-ffff-ffff-ffff-ffffffffffff' OR p_tolerated < (
      SELECT count(*)
      FROM (
        SELECT FROM rag.embedding_queue AS q
        JOIN rag.chunks AS c ON c.tenant_id = q.tenant_id AND c.id = q.chunk_id AND c.live
        WHERE q.model_id = m.id AND q.status = 'waiting'
        LIMIT p_tolerated + 1
      ) AS waiting) THEN 'chunks'
    WHEN EXISTS (SELECT FROM rag.next_indexes()) THEN 'indexes'
  END
  FROM rag.embedding_models AS m
  WHERE m.status = 'building'
$$;

COMMENT ON FUNCTION rag.reembedding_waits(bigint) IS
  'What a re-embedding lacks before it may take the place of what answers: chunks (more than p_tolerated of those that searches see have no vector yet), indexes; NULL: nothing. Internal.';
