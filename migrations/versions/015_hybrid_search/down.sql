ALTER TABLE chat.citations DROP COLUMN page, DROP COLUMN start_char, DROP COLUMN end_char;
ALTER TABLE chat.passages
  DROP COLUMN page, DROP COLUMN start_char, DROP COLUMN end_char, DROP COLUMN context_before, DROP COLUMN context_after, DROP COLUMN rerank_score;
COMMENT ON COLUMN chat.passages.score IS 'Reciprocal rank fusion of the three ranks; a NULL rank means that this leg did not find the passage.';
DROP TABLE rag.search_settings, rag.chunk_changes, rag.vocabulary, rag.statistics;
DROP INDEX IF EXISTS rag.chunks_lexemes;
DROP INDEX rag.embeddings_document;
DROP TYPE rag.query_word;
ALTER TABLE rag.chunks RESET (toast_tuple_target);
ALTER TABLE rag.chunks ALTER COLUMN search_text SET STORAGE EXTENDED;
CREATE INDEX chunks_search_text ON rag.chunks USING gin (search_text) WHERE live;
CREATE INDEX chunks_trigrams ON rag.chunks USING gin (content gin_trgm_ops) WHERE live;
