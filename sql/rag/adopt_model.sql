-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.adopt_model(p_name text, p_width integer)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_model rag.embedding_models;
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
  END IF;
  RETURN jsonb_build_object('name', v_model.name, 'width', v_model.width);
END
$$;

COMMENT ON FUNCTION rag.adopt_model(text, integer) IS
  'Makes a model the active one where no vector is stored yet (NULL: as it is). Returns {name, width} of the active model. Called by every migration run.';
