-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.drop_unused()
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_table regclass;
BEGIN
  FOREACH v_table IN ARRAY array_remove(ARRAY[
    to_regclass('rag.embeddings_old'),
    CASE WHEN NOT EXISTS (SELECT FROM rag.embedding_models AS m WHERE m.status = 'building') THEN to_regclass('rag.embeddings_next') END
  ], NULL) LOOP
    -- Its foreign key is one of rag.chunks too. Everybody comes to it from these: in this order nobody waits in a circle.
    LOCK TABLE rag.chunks IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('DROP TABLE %s', v_table);
  END LOOP;
END
$$;

COMMENT ON FUNCTION rag.drop_unused() IS
  'Drops the vectors of an earlier model, which a switch has left, and those of one that is not built any more. Raises lock_not_available: try again. For make reembed.';
