-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.place_vectors(p_tenant uuid, p_chunks uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_active integer := rag.hold_model();
BEGIN
  INSERT INTO rag.embeddings AS e (tenant_id, chunk_id, document_id, embedding, text_hash)
  SELECT p_tenant, q.chunk_id, q.document_id, q.embedding, q.text_hash
  FROM unnest(p_chunks) AS n (id)
  JOIN rag.chunks AS c ON c.tenant_id = p_tenant AND c.id = n.id AND c.live
  JOIN rag.embedding_queue AS q ON q.tenant_id = p_tenant AND q.chunk_id = n.id AND q.model_id = v_active AND q.status = 'done'
  ON CONFLICT (tenant_id, chunk_id) DO UPDATE SET embedding = excluded.embedding, text_hash = excluded.text_hash;
  IF to_regclass('rag.embeddings_next') IS NOT NULL THEN
    INSERT INTO rag.embeddings_next AS e (tenant_id, chunk_id, document_id, embedding, text_hash)
    SELECT p_tenant, q.chunk_id, q.document_id, q.embedding, q.text_hash
    FROM unnest(p_chunks) AS n (id)
    JOIN rag.chunks AS c ON c.tenant_id = p_tenant AND c.id = n.id AND c.live
    JOIN rag.embedding_queue AS q ON q.tenant_id = p_tenant AND q.chunk_id = n.id AND q.status = 'done'
    JOIN rag.embedding_models AS m ON m.id = q.model_id AND m.status = 'building'
    ON CONFLICT (tenant_id, chunk_id) DO UPDATE SET embedding = excluded.embedding, text_hash = excluded.text_hash;
  END IF;
  DELETE FROM rag.embedding_queue AS q
  USING unnest(p_chunks) AS n (id)
  JOIN rag.chunks AS c ON c.tenant_id = p_tenant AND c.id = n.id AND c.live
  WHERE q.tenant_id = p_tenant AND q.chunk_id = n.id AND q.status = 'done';
END
$$;

COMMENT ON FUNCTION rag.place_vectors(uuid, uuid[]) IS 'Moves the vectors that wait in the queue for live ones of these chunks to where searches see them. Internal.';
