ALTER TABLE rag.documents ADD COLUMN large boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN rag.documents.large IS
  'Its indexing is a job of its own, because it takes longer, or more memory, than a Service allows: so it seems by its size, or so an attempt has shown. '
  'The attribute size of ingestion.received tells it.';
