-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.embedding_width()
RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT a.atttypmod
  FROM pg_attribute AS a
  WHERE a.attrelid = 'rag.embeddings'::regclass AND a.attname = 'embedding'
$$;

COMMENT ON FUNCTION rag.embedding_width() IS 'How many components the stored embeddings have: those of the active model.';
GRANT EXECUTE ON FUNCTION rag.embedding_width() TO app, dba_readonly;
