-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.return_embeddings(p_worker text, p_model_id integer, p_chunk_ids uuid[], p_code text, p_detail text)
RETURNS integer
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  WITH returned AS (
    UPDATE rag.embedding_queue AS q
    SET leased_by = NULL, error_code = p_code, error_detail = left(p_detail, 2000),
        -- A re-embedding waits for its endpoint without end: only those are exhausted at which workers died.
        attempts = CASE m.status WHEN 'building' THEN least(q.attempts, 7) ELSE q.attempts END,
        due_at = clock_timestamp() + least(interval '1 minute', interval '500 milliseconds' * 2 ^ least(q.attempts, 10))
    FROM rag.embedding_models AS m
    WHERE q.tenant_id = core.require_tenant() AND q.chunk_id = ANY (p_chunk_ids) AND q.model_id = p_model_id AND m.id = p_model_id
      AND q.leased_by = p_worker AND q.status = 'waiting'
    RETURNING 1
  )
  SELECT count(*)::integer FROM returned
$$;

COMMENT ON FUNCTION rag.return_embeddings(text, integer, uuid[], text, text) IS
  'Gives chunks back after a failure that may pass: they are due again after a back-off of a second to a minute.';
GRANT EXECUTE ON FUNCTION rag.return_embeddings(text, integer, uuid[], text, text) TO app;
