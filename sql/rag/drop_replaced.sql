-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.drop_replaced()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM rag.chunks AS c WHERE c.tenant_id = new.tenant_id AND c.document_id = new.id AND c.version < new.version AND NOT c.live;
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION rag.drop_replaced() IS 'A document has a newer version: the chunks of one that never became live are embedded no more.';

CREATE OR REPLACE TRIGGER drop_replaced
AFTER UPDATE OF version ON rag.documents
FOR EACH ROW WHEN (old.version < new.version)
EXECUTE FUNCTION rag.drop_replaced();
