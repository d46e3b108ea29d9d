ALTER TABLE rag.embedding_models ADD COLUMN send_dimensions boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN rag.embedding_models.send_dimensions IS
  'The endpoint is asked for vectors of this width (dimensions), because the model can shorten its own. Many endpoints refuse that, so it is not done unless somebody says so.';
