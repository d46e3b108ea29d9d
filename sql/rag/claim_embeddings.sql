-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.claim_embeddings(
  p_worker text, p_lease interval, p_limit integer, p_tokens integer,
  p_document_id uuid, p_version integer, p_event_source text, p_event_id text
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_attempts constant integer := 12;
  v_tenant uuid := core.require_tenant();
  v_model rag.embedding_models;
  v_chunks jsonb;
BEGIN
  -- What answers now comes before what a re-embedding makes for later.
  FOR v_model IN SELECT * FROM rag.embedding_models AS m WHERE m.status IN ('active', 'building') ORDER BY m.status LOOP
    WITH due AS (
      SELECT q.chunk_id, q.turn_at
      FROM rag.embedding_queue AS q
      WHERE q.tenant_id = v_tenant AND q.model_id = v_model.id AND q.status = 'waiting' AND q.due_at <= clock_timestamp()
      ORDER BY q.turn_at
      LIMIT p_limit
      FOR UPDATE SKIP LOCKED
    ), weighed AS (
      SELECT due.chunk_id, c.document_id, c.heading, c.content,
        sum(c.token_count) OVER (ORDER BY due.turn_at, c.document_id, c.ordinal) - c.token_count AS tokens_before
      FROM due
      JOIN rag.chunks AS c ON c.tenant_id = v_tenant AND c.id = due.chunk_id
    ), claimed AS (
      UPDATE rag.embedding_queue AS q
      SET leased_by = p_worker, due_at = clock_timestamp() + p_lease, attempts = q.attempts + 1
      FROM weighed AS w
      WHERE q.tenant_id = v_tenant AND q.chunk_id = w.chunk_id AND q.model_id = v_model.id AND w.tokens_before < p_tokens
      RETURNING q.chunk_id, q.attempts, w.document_id, w.heading, w.content
    )
    SELECT jsonb_agg(jsonb_build_object(
      'id', c.chunk_id, 'text', rag.embedded_text(d.title, d.name, c.heading, c.content),
      'last', v_model.status = 'active' AND c.attempts >= c_attempts, 'exhausted', c.attempts > c_attempts))
    INTO v_chunks
    FROM claimed AS c
    JOIN rag.documents AS d ON d.tenant_id = v_tenant AND d.id = c.document_id;
    IF v_chunks IS NOT NULL THEN
      RETURN jsonb_build_object(
        'outcome', 'claimed', 'model', rag.model_document(v_model), 'chunks', v_chunks);
    END IF;
  END LOOP;
  RETURN jsonb_build_object(
    'outcome', CASE WHEN rag.consume_requested(p_document_id, p_version, p_event_source, p_event_id) THEN 'done' ELSE 'busy' END);
END
$$;

COMMENT ON FUNCTION rag.claim_embeddings(text, interval, integer, integer, uuid, integer, text, text) IS
  'Leases up to p_limit of the tenant''s chunks, of p_tokens together, that want a vector: {outcome: claimed, model: rag.model_document, chunks: [{id, text, last: the lease is the '
  'last one, exhausted: even that did not end}]}. Where none is due, what became of the document that the event names: busy (some wait, or are in other hands) or done.';
GRANT EXECUTE ON FUNCTION rag.claim_embeddings(text, interval, integer, integer, uuid, integer, text, text) TO app;
