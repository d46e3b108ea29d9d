-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.queue_embeddings(p_tenant uuid, p_chunks uuid[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_active integer := rag.hold_model();
BEGIN
  -- While a re-embedding runs, a chunk wants two vectors: one to be found by now, and one for later.
  INSERT INTO rag.embedding_queue AS q (tenant_id, chunk_id, model_id, document_id, version, text_hash, status, turn_at, embedding)
  SELECT p_tenant, t.id, m.id, t.document_id, t.version, t.hash, CASE WHEN known.embedding IS NULL THEN 'waiting' ELSE 'done' END,
    now() + (t.ordinal / 64) * interval '10 seconds', known.embedding
  FROM (
    SELECT c.id, c.document_id, c.version, c.ordinal, rag.text_hash(rag.embedded_text(d.title, d.name, c.heading, c.content)) AS hash
    FROM unnest(p_chunks) AS n (id)
    JOIN rag.chunks AS c ON c.tenant_id = p_tenant AND c.id = n.id
    JOIN rag.documents AS d ON d.tenant_id = p_tenant AND d.id = c.document_id
  ) AS t
  CROSS JOIN rag.embedding_models AS m
  LEFT JOIN LATERAL (
    SELECT e.embedding
    FROM rag.embeddings AS e
    WHERE m.id = v_active AND e.tenant_id = p_tenant AND e.text_hash = t.hash
    LIMIT 1
  ) AS known ON true
  WHERE m.status IN ('active', 'building')
  ON CONFLICT (tenant_id, chunk_id, model_id) DO UPDATE
  SET text_hash = excluded.text_hash, status = excluded.status, embedding = excluded.embedding, turn_at = excluded.turn_at,
      due_at = '-infinity', attempts = 0, leased_by = NULL, error_code = NULL, error_detail = NULL;
END
$$;

COMMENT ON FUNCTION rag.queue_embeddings(uuid, uuid[]) IS
  'Queues chunks for the vectors that they want, in the place of what was queued for them. One whose text the tenant has embedded takes that vector. Internal.';
