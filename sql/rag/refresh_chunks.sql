-- requires: 015_hybrid_search
-- In the transaction of the change, whatever the size: a search sees all of it or nothing. A passage costs one to two milliseconds.
CREATE OR REPLACE FUNCTION rag.refresh_chunks()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_chunks uuid[];
BEGIN
  -- A trigger makes the search_text anew, and another one counts its words.
  WITH refreshed AS (
    UPDATE rag.chunks AS c SET heading = c.heading WHERE c.tenant_id = new.tenant_id AND c.document_id = new.id RETURNING c.id
  )
  SELECT array_agg(r.id) INTO v_chunks FROM refreshed AS r;
  IF v_chunks IS NULL OR rag.embedded_text(old.title, old.name, '', '') = rag.embedded_text(new.title, new.name, '', '') THEN
    RETURN NULL;
  END IF;
  PERFORM rag.queue_embeddings(new.tenant_id, v_chunks), rag.place_vectors(new.tenant_id, v_chunks);
  PERFORM rag.emit_embedding(q.tenant_id, q.document_id, q.version, count(*))
  FROM rag.embedding_queue AS q
  WHERE q.tenant_id = new.tenant_id AND q.document_id = new.id AND q.status = 'waiting'
  GROUP BY q.tenant_id, q.document_id, q.version;
  PERFORM rag.settle_document(new.tenant_id, new.id);
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION rag.refresh_chunks() IS
  'A document is called otherwise: its chunks are found by the new title and name at once, and queued for vectors that are made with them. Until these come, the old ones stay.';

-- Who stores the chunks of a version sets its title before, and makes them by it; those of an older one are about to leave.
CREATE OR REPLACE TRIGGER refresh_chunks
AFTER UPDATE OF title, name ON rag.documents
FOR EACH ROW WHEN ((old.title, old.name) IS DISTINCT FROM (new.title, new.name) AND old.stage = new.stage)
EXECUTE FUNCTION rag.refresh_chunks();
