-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.adopt_model(p_name text, p_width integer, p_send_dimensions boolean DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_model rag.embedding_models;
  v_changed boolean := false;
BEGIN
  SELECT * INTO v_model FROM rag.embedding_models AS m WHERE m.status = 'active';
  IF NOT FOUND THEN
    INSERT INTO rag.embedding_models (name, width, status, activated_at)
    VALUES (coalesce(p_name, ops.setting('litellm_embedding_model')), rag.embedding_width(), 'active', now())
    RETURNING * INTO v_model;
  END IF;
  -- Nothing is lost by another one as long as there is no vector of this one.
  IF (v_model.name, v_model.width) <> (coalesce(p_name, v_model.name), coalesce(p_width, v_model.width))
    AND NOT EXISTS (SELECT FROM rag.embeddings) AND NOT EXISTS (SELECT FROM rag.embedding_queue)
    AND NOT EXISTS (SELECT FROM rag.embedding_models AS m WHERE m.status = 'building') THEN
    EXECUTE format('ALTER TABLE rag.embeddings ALTER COLUMN embedding TYPE halfvec(%s)', coalesce(p_width, v_model.width));
    UPDATE rag.embedding_models AS m SET name = coalesce(p_name, m.name), width = coalesce(p_width, m.width) WHERE m.id = v_model.id
    RETURNING * INTO v_model;
    v_changed := true;
  END IF;
  -- Of the model that there is it may be said at any time that it is to be asked. What make reembed has tried out is not taken back.
  IF p_send_dimensions IS NOT NULL AND (p_send_dimensions OR v_changed)
    AND (v_model.name, v_model.width) = (coalesce(p_name, v_model.name), coalesce(p_width, v_model.width)) THEN
    UPDATE rag.embedding_models AS m SET send_dimensions = p_send_dimensions WHERE m.id = v_model.id AND m.send_dimensions <> p_send_dimensions;
  END IF;
  RETURN jsonb_build_object('name', v_model.name, 'width', v_model.width);
END
$$;

COMMENT ON FUNCTION rag.adopt_model(text, integer, boolean) IS
  'Makes a model the active one where no vector is stored yet (NULL: as it is), and of that model says whether its endpoint is asked for its width. Returns {name, width} of the active '
  'model. Called by every migration run; before 018_shortened_vectors p_send_dimensions must be NULL.';
