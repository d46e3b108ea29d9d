-- requires: 018_shortened_vectors
-- Whoever queues chunks holds rag.embeddings (rag.hold_model): with the lock of this transaction each has either ended, and its
-- chunks are found by rag.queue_reembedding, or will see the model that is being built, and queue them for it.
CREATE OR REPLACE FUNCTION rag.begin_reembedding(p_name text, p_width integer, p_send_dimensions boolean DEFAULT false)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_active rag.embedding_models;
  v_building rag.embedding_models;
BEGIN
  LOCK TABLE rag.embedding_models IN SHARE ROW EXCLUSIVE MODE;
  SELECT * INTO v_building FROM rag.embedding_models AS m WHERE m.status = 'building';
  IF FOUND THEN
    IF (v_building.name, v_building.width) <> (p_name, p_width) THEN
      PERFORM ops.raise_problem('conflict', format('Vectors of %s with %s dimensions are being made: go on with these, or cancel them first.',
                                                   v_building.name, v_building.width));
    END IF;
    UPDATE rag.embedding_models AS m SET send_dimensions = p_send_dimensions WHERE m.id = v_building.id;
    -- What was set aside is tried again, and what nobody may know of any more is asked for.
    UPDATE rag.embedding_queue AS q
    SET status = 'waiting', attempts = 0, due_at = '-infinity', error_code = NULL, error_detail = NULL
    WHERE q.model_id = v_building.id AND q.status = 'failed';
    PERFORM rag.emit_embedding(w.tenant_id, w.document_id, w.version, w.chunks)
    FROM (
      SELECT DISTINCT ON (q.tenant_id) q.tenant_id, q.document_id, q.version, count(*) OVER (PARTITION BY q.tenant_id) AS chunks
      FROM rag.embedding_queue AS q
      WHERE q.model_id = v_building.id AND q.status = 'waiting'
    ) AS w;
    RETURN 'resumed';
  END IF;
  SELECT * INTO v_active FROM rag.embedding_models AS m WHERE m.status = 'active';
  IF (v_active.name, v_active.width) = (p_name, p_width) THEN
    UPDATE rag.embedding_models AS m SET send_dimensions = p_send_dimensions WHERE m.id = v_active.id AND m.send_dimensions <> p_send_dimensions;
    RETURN 'active';
  END IF;

  IF to_regclass('rag.embeddings_next') IS NULL THEN
    RETURN 'unprepared';
  END IF;
  LOCK TABLE rag.embeddings IN SHARE ROW EXCLUSIVE MODE;
  INSERT INTO rag.embedding_models (name, width, send_dimensions, status) VALUES (p_name, p_width, p_send_dimensions, 'building');
  RETURN 'begun';
END
$$;

COMMENT ON FUNCTION rag.begin_reembedding(text, integer, boolean) IS
  'Begins to make vectors by another model, beside those that answer: begun; or resumed (it is under way), active (they are that model''s already), unprepared (rag.create_next comes '
  'first). p_send_dimensions is taken over in any case. Raises conflict when those of a third one are being made, and lock_not_available: try again. For make reembed.';
