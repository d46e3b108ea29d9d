-- requires: 008_ingestion_pipeline
-- A switch to another model renames rag.embeddings under ACCESS EXCLUSIVE: with this lock it is either over, and seen by the
-- second statement, or has to wait for the end of the transaction.
CREATE OR REPLACE FUNCTION rag.hold_model()
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  LOCK TABLE rag.embeddings IN ROW EXCLUSIVE MODE;
  RETURN (SELECT m.id FROM rag.embedding_models AS m WHERE m.status = 'active');
END
$$;

COMMENT ON FUNCTION rag.hold_model() IS 'The id of the active model, which stays the active one until the transaction ends. Internal.';
