-- requires: 008_ingestion_pipeline
-- A row at a time: a trigger with transition tables cannot name columns, and would copy every chunk that becomes live.
CREATE OR REPLACE FUNCTION rag.queue_changed()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_asked boolean := EXISTS (
    SELECT FROM rag.embedding_queue AS q WHERE q.tenant_id = new.tenant_id AND q.document_id = new.document_id AND q.status = 'waiting');
BEGIN
  PERFORM rag.queue_embeddings(new.tenant_id, ARRAY[new.id]), rag.place_vectors(new.tenant_id, ARRAY[new.id]);
  IF NOT v_asked THEN
    PERFORM rag.emit_embedding(new.tenant_id, new.document_id, new.version, 1);
  END IF;
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION rag.queue_changed() IS 'A chunk says something else: queues it alone, and emits embedding.requested. Until its vector comes, its old one stays.';

CREATE OR REPLACE TRIGGER queue_changed
AFTER UPDATE OF heading, content ON rag.chunks
FOR EACH ROW WHEN ((old.heading, old.content) IS DISTINCT FROM (new.heading, new.content))
EXECUTE FUNCTION rag.queue_changed();
