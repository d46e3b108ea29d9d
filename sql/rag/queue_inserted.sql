-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.queue_inserted()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM rag.queue_embeddings(i.tenant_id, array_agg(i.id)) FROM inserted AS i GROUP BY i.tenant_id;
  PERFORM rag.emit_embedding(q.tenant_id, q.document_id, q.version, count(*))
  FROM inserted AS i
  JOIN rag.embedding_queue AS q ON q.tenant_id = i.tenant_id AND q.chunk_id = i.id
  WHERE q.status = 'waiting'
  GROUP BY q.tenant_id, q.document_id, q.version;
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION rag.queue_inserted() IS 'Chunks are new: queues them for their vectors, and emits embedding.requested.';

CREATE OR REPLACE TRIGGER queue_inserted
AFTER INSERT ON rag.chunks
REFERENCING NEW TABLE AS inserted
FOR EACH STATEMENT EXECUTE FUNCTION rag.queue_inserted();
