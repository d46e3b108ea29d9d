-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.cancel_reembedding()
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- With the first lock nobody deletes, with the second nobody places a vector: the third is free.
  LOCK TABLE rag.chunks IN ACCESS EXCLUSIVE MODE;
  PERFORM set_config('lock_timeout', '200ms', true);
  LOCK TABLE rag.embeddings IN SHARE ROW EXCLUSIVE MODE;
  UPDATE rag.embedding_models AS m SET status = 'cancelled', ended_at = now() WHERE m.status = 'building';
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM rag.drop_embeddings('rag.embeddings_next');
  RETURN true;
END
$$;

COMMENT ON FUNCTION rag.cancel_reembedding() IS
  'Removes what was being built; returns whether there was anything. What waits for it in the queue rag.clear_queue removes. Raises lock_not_available: try again. For make reembed.';
