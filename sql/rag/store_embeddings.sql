-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.store_embeddings(
  p_worker text, p_model_id integer, p_results jsonb, p_document_id uuid, p_version integer, p_event_source text, p_event_id text
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_model integer := rag.hold_model();
  v_ids uuid[];
  v_vectors halfvec[];
  v_codes text[];
  v_details text[];
  v_documents uuid[];
  v_document record;
  v_chunks uuid[];
  v_outcome text;
  v_ended jsonb := '[]';
BEGIN
  -- Reading vectors from their text is most of the work: once.
  SELECT array_agg(r.chunk_id), array_agg(r.embedding), array_agg(r.error_code), array_agg(r.error_detail) INTO v_ids, v_vectors, v_codes, v_details
  FROM jsonb_to_recordset(p_results) AS r (chunk_id uuid, embedding halfvec, error_code text, error_detail text);
  IF EXISTS (
    SELECT FROM unnest(v_vectors) AS r (embedding)
    JOIN rag.embedding_models AS m ON m.id = p_model_id AND vector_dims(r.embedding) <> m.width
  ) THEN
    PERFORM ops.raise_problem('embedding_width_mismatch', 'A vector has another width than its model.');
  END IF;
  -- Documents before their chunks, and in one order: whoever locks both does so.
  SELECT array_agg(d.id) INTO v_documents
  FROM (
    SELECT d.id
    FROM rag.documents AS d
    WHERE d.tenant_id = v_tenant AND d.id IN (
      SELECT q.document_id
      FROM unnest(v_ids) AS r (chunk_id)
      JOIN rag.embedding_queue AS q ON q.tenant_id = v_tenant AND q.chunk_id = r.chunk_id AND q.model_id = p_model_id)
    ORDER BY d.id
    FOR NO KEY UPDATE
  ) AS d;
  WITH stored AS (
    UPDATE rag.embedding_queue AS q
    SET status = CASE WHEN r.embedding IS NULL THEN 'failed' ELSE 'done' END, embedding = r.embedding, leased_by = NULL,
        error_code = r.error_code, error_detail = left(r.error_detail, 2000)
    FROM unnest(v_ids, v_vectors, v_codes, v_details) AS r (chunk_id, embedding, error_code, error_detail)
    -- Whoever has lost the lease, or whose chunk says something else by now, stores nothing.
    WHERE q.tenant_id = v_tenant AND q.chunk_id = r.chunk_id AND q.model_id = p_model_id AND q.leased_by = p_worker AND q.status = 'waiting'
    RETURNING q.chunk_id
  )
  SELECT array_agg(s.chunk_id) INTO v_chunks FROM stored AS s;
  PERFORM rag.place_vectors(v_tenant, v_chunks);

  -- A re-embedding changes no document.
  FOR v_document IN
    SELECT d.id, d.version, d.status, d.chunks_total, count(*) FILTER (WHERE r.embedding IS NOT NULL) AS embedded,
      count(*) FILTER (WHERE r.embedding IS NULL) AS failed, bool_or(r.error_code = 'embedding_unavailable') AS unavailable
    FROM unnest(v_ids, v_vectors, v_codes) AS r (chunk_id, embedding, error_code)
    JOIN rag.chunks AS c ON c.tenant_id = v_tenant AND c.id = r.chunk_id
    JOIN rag.documents AS d ON d.tenant_id = v_tenant AND d.id = c.document_id AND d.version = c.version
    WHERE d.id = ANY (v_documents) AND r.chunk_id = ANY (v_chunks) AND p_model_id = v_model
    GROUP BY d.tenant_id, d.id
    ORDER BY d.id
  LOOP
    IF v_document.status = 'processing' THEN
      UPDATE rag.documents AS d
      SET chunks_embedded = least(d.chunks_embedded + v_document.embedded, d.chunks_total), updated_at = now()
      WHERE d.tenant_id = v_tenant AND d.id = v_document.id;
      IF v_document.unavailable THEN
        UPDATE rag.embedding_queue AS q
        SET status = 'failed', leased_by = NULL, error_code = 'embedding_unavailable',
            error_detail = coalesce(q.error_detail, 'The embedding endpoint did not answer for another passage of the document.')
        WHERE q.tenant_id = v_tenant AND q.document_id = v_document.id AND q.status = 'waiting' AND q.model_id = p_model_id;
      END IF;
      v_outcome := rag.finish_document(v_tenant, v_document.id);
      IF v_outcome IS NOT NULL THEN
        v_ended := v_ended || (
          SELECT jsonb_build_object('document_id', d.id, 'version', d.version, 'status', d.status, 'chunks', d.chunks_total,
                                    'chunks_failed', d.chunks_failed, 'code', d.error_code, 'detail', d.error_detail)
          FROM rag.documents AS d WHERE d.tenant_id = v_tenant AND d.id = v_document.id);
      END IF;
    ELSE
      PERFORM rag.count_failed(v_tenant, v_document.id);
    END IF;
  END LOOP;
  PERFORM rag.consume_requested(p_document_id, p_version, p_event_source, p_event_id);
  RETURN jsonb_build_object('stored', coalesce(cardinality(v_chunks), 0), 'ended', v_ended);
END
$$;

COMMENT ON FUNCTION rag.store_embeddings(text, integer, jsonb, uuid, integer, text, text) IS
  'Stores what a worker made of chunks that it has in hand: [{chunk_id, embedding: "[...]"} or {chunk_id, error_code, error_detail} for one that no vector can be had for]. The last '
  'one of a version publishes it. Returns {stored, ended: [{document_id, version, status, chunks, chunks_failed, code, detail}]}; chunks that were lost to others are passed over.';
GRANT EXECUTE ON FUNCTION rag.store_embeddings(text, integer, jsonb, uuid, integer, text, text) TO app;
