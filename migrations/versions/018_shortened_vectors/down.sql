ALTER TABLE rag.embedding_models DROP COLUMN send_dimensions;
