-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.embeddings_part(p_name text, p_kind text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT regexp_replace(p_name, '^(embeddings)?_?', 'embeddings_' || p_kind || '_')
$$;

COMMENT ON FUNCTION rag.embeddings_part(text, text) IS
  'What an index, key or statistics object of rag.embeddings is called on rag.embeddings_next (p_kind next) or on the table that it replaced (old). Internal.';
