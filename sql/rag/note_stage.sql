-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.note_stage()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  new.stage_at := clock_timestamp();
  IF new.version <> old.version THEN
    new.received_at := clock_timestamp();
  END IF;
  new.finished_at := CASE WHEN new.status IN ('indexed', 'failed') THEN clock_timestamp() END;
  RETURN new;
END
$$;

COMMENT ON FUNCTION rag.note_stage() IS 'A document has got further, has ended, or begins anew: notes when.';

CREATE OR REPLACE TRIGGER note_stage
BEFORE UPDATE ON rag.documents
FOR EACH ROW WHEN ((old.status, old.stage, old.version) IS DISTINCT FROM (new.status, new.stage, new.version))
EXECUTE FUNCTION rag.note_stage();
