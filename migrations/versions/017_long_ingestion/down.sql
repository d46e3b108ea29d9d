ALTER TABLE rag.documents DROP COLUMN large;
