-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.renew_embeddings(p_worker text, p_chunk_ids uuid[], p_lease interval)
RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  -- One that is locked is being stored, or deleted.
  UPDATE rag.embedding_queue AS q
  SET due_at = clock_timestamp() + p_lease
  FROM (
    SELECT h.tenant_id, h.chunk_id, h.model_id
    FROM rag.embedding_queue AS h
    WHERE h.tenant_id = core.require_tenant() AND h.chunk_id = ANY (p_chunk_ids) AND h.leased_by = p_worker AND h.status = 'waiting'
    FOR UPDATE SKIP LOCKED
  ) AS held
  WHERE q.tenant_id = held.tenant_id AND q.chunk_id = held.chunk_id AND q.model_id = held.model_id
$$;

COMMENT ON FUNCTION rag.renew_embeddings(text, uuid[], interval) IS 'Keeps the leases of chunks that a worker has in hand, while the endpoint takes its time.';
GRANT EXECUTE ON FUNCTION rag.renew_embeddings(text, uuid[], interval) TO app;
