-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.drop_old()
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF to_regclass('rag.embeddings_old') IS NOT NULL THEN
    PERFORM rag.drop_embeddings('rag.embeddings_old');
  END IF;
END
$$;

COMMENT ON FUNCTION rag.drop_old() IS 'Drops the vectors of the earlier model, where a switch has left them. Raises lock_not_available: try again. For make reembed.';
