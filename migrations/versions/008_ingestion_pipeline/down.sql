DROP TABLE IF EXISTS rag.embeddings_next;
DROP TABLE rag.embedding_queue;
DROP TABLE rag.embedding_models;
DROP INDEX rag.embeddings_text_hash;
ALTER TABLE rag.embeddings DROP COLUMN text_hash;
-- What waited for vectors is received again.
DELETE FROM rag.chunks
WHERE NOT live;
UPDATE rag.documents SET status = 'received', stage = 'received', chunks_total = 0, chunks_embedded = 0, chunks_failed = 0, error_code = NULL, error_detail = NULL
WHERE stage = 'embedding' AND status = 'processing';
UPDATE rag.documents SET error_code = NULL, error_detail = NULL
WHERE status <> 'failed';
ALTER TABLE rag.documents DROP CONSTRAINT documents_cause;
ALTER TABLE rag.documents ADD CONSTRAINT documents_check3 CHECK ((status = 'failed') = (error_code IS NOT NULL));
COMMENT ON COLUMN rag.documents.error_code IS NULL;
