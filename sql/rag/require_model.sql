-- requires: 008_ingestion_pipeline
-- Volatile, because it locks: until the transaction ends, rag.embeddings holds the vectors of the model that it found.
CREATE OR REPLACE FUNCTION rag.require_model(p_model_id integer)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  LOCK TABLE rag.embeddings IN ACCESS SHARE MODE;
  IF NOT EXISTS (SELECT FROM rag.embedding_models AS m WHERE m.id = p_model_id AND m.status = 'active') THEN
    PERFORM ops.raise_problem('embedding_model_changed', 'The question was embedded by a model that made none of the stored vectors: embed it again.');
  END IF;
END
$$;

COMMENT ON FUNCTION rag.require_model(integer) IS
  'To be called before rag.search with the model of the question''s vector; raises embedding_model_changed when the stored vectors are another''s. Internal.';
