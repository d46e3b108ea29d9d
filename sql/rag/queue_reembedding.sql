-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.queue_reembedding(p_most integer)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_first constant uuid := '00000000-0000-0000-0000-000000000000';
  c_last constant uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  v_model rag.embedding_models;
  v_waiting integer;
  v_failed integer;
  v_error text;
  v_passed integer := 0;
  v_slice record;
BEGIN
  SELECT * INTO v_model FROM rag.embedding_models AS m WHERE m.status = 'building' FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  SELECT count(*) FILTER (WHERE q.status = 'waiting'), count(*) FILTER (WHERE q.status = 'failed'),
    max(q.error_code || ': ' || q.error_detail) FILTER (WHERE q.status = 'waiting' OR q.status = 'failed')
  INTO v_waiting, v_failed, v_error
  FROM rag.embedding_queue AS q
  WHERE q.model_id = v_model.id;
  -- Half of the queue at a time: each slice asks for workers.
  IF v_waiting <= p_most / 2 AND v_model.queued_tenant IS DISTINCT FROM c_last THEN
    -- A chunk that somebody changes or deletes ends this attempt: to wait for it, with others locked, could be a deadlock. What is
    -- locked nobody else queues meanwhile.
    FOR v_slice IN
      WITH slice AS MATERIALIZED (
        SELECT c.tenant_id, c.id, c.document_id, c.version, c.heading, c.content
        FROM rag.chunks AS c
        WHERE (c.tenant_id, c.id) > (coalesce(v_model.queued_tenant, c_first), coalesce(v_model.queued_chunk, c_first))
        ORDER BY c.tenant_id, c.id
        LIMIT p_most - v_waiting
        FOR SHARE NOWAIT
      ), hashed AS (
        SELECT s.tenant_id, s.id, s.document_id, s.version, rag.text_hash(rag.embedded_text(d.title, d.name, s.heading, s.content)) AS hash
        FROM slice AS s
        JOIN rag.documents AS d ON d.tenant_id = s.tenant_id AND d.id = s.document_id
      ), queued AS (
        -- Uploads since the beginning have queued theirs, or have their vector already.
        INSERT INTO rag.embedding_queue (tenant_id, chunk_id, model_id, document_id, version, text_hash)
        SELECT h.tenant_id, h.id, v_model.id, h.document_id, h.version, h.hash
        FROM hashed AS h
        WHERE NOT EXISTS (
          SELECT FROM rag.embeddings_next AS n WHERE n.tenant_id = h.tenant_id AND n.chunk_id = h.id AND n.text_hash = h.hash)
        ON CONFLICT DO NOTHING
        RETURNING tenant_id, document_id, version
      )
      -- Not a join: the planner knows nothing of these numbers, and would look through the one for each row of the other.
      SELECT t.tenant_id, count(t.id) AS passed, max(t.id::text)::uuid AS last, count(t.document_id) AS queued,
        (array_agg(t.document_id) FILTER (WHERE t.document_id IS NOT NULL))[1] AS document_id,
        (array_agg(t.version) FILTER (WHERE t.document_id IS NOT NULL))[1] AS version
      FROM (
        SELECT s.tenant_id, s.id, NULL::uuid AS document_id, NULL::integer AS version FROM slice AS s
        UNION ALL
        SELECT q.tenant_id, NULL, q.document_id, q.version FROM queued AS q
      ) AS t
      GROUP BY t.tenant_id
      ORDER BY t.tenant_id
    LOOP
      IF v_slice.queued > 0 THEN
        PERFORM rag.emit_embedding(v_slice.tenant_id, v_slice.document_id, v_slice.version, v_slice.queued);
        v_waiting := v_waiting + v_slice.queued;
      END IF;
      v_passed := v_passed + v_slice.passed;
      v_model.queued_tenant := v_slice.tenant_id;
      v_model.queued_chunk := v_slice.last;
    END LOOP;
    IF v_passed = 0 THEN
      v_model.queued_tenant := c_last;
      v_model.queued_chunk := c_last;
    END IF;
    UPDATE rag.embedding_models AS m SET queued_tenant = v_model.queued_tenant, queued_chunk = v_model.queued_chunk WHERE m.id = v_model.id;
  END IF;
  RETURN jsonb_build_object(
    'passed', v_passed, 'waiting', v_waiting, 'failed', v_failed, 'error', v_error, 'over', v_model.queued_tenant IS NOT DISTINCT FROM c_last);
END
$$;

COMMENT ON FUNCTION rag.queue_reembedding(integer) IS
  'Queues chunks for the model that is being built, in the order of their keys, until p_most wait: {passed: how many it went past now, waiting, failed, error: one of theirs, over: '
  'there are no more}. NULL when none is being built; raises lock_not_available where a chunk is just being changed or deleted: try again. For make reembed.';
