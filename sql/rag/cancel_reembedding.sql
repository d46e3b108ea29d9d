-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.cancel_reembedding()
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Whoever places vectors has ended, or will see that none are built.
  LOCK TABLE rag.embeddings IN SHARE ROW EXCLUSIVE MODE;
  UPDATE rag.embedding_models AS m SET status = 'cancelled', ended_at = now() WHERE m.status = 'building';
  RETURN FOUND;
END
$$;

COMMENT ON FUNCTION rag.cancel_reembedding() IS
  'Gives up the vectors that are being made; returns whether there were any. rag.drop_unused and rag.clear_queue remove what is left. Raises lock_not_available: try again. For make reembed.';
