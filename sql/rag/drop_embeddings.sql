-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.drop_embeddings(p_table regclass)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Its foreign key is one of rag.chunks too. Whoever deletes chunks goes from these to this table: in this order nobody waits in a circle.
  LOCK TABLE rag.chunks IN ACCESS EXCLUSIVE MODE;
  EXECUTE format('DROP TABLE %s', p_table);
END
$$;

COMMENT ON FUNCTION rag.drop_embeddings(regclass) IS 'Drops a table of vectors that nobody searches. Raises lock_not_available: try again. Internal.';
