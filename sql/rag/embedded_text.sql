-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.embedded_text(p_title text, p_name text, p_heading text, p_content text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT coalesce(nullif(p_title, ''), p_name) || ' ' || p_heading || E'\n' || p_content
$$;

COMMENT ON FUNCTION rag.embedded_text(text, text, text, text) IS 'What the vector of a chunk is made of: the title or else the name of its document, its headings, its text. Internal.';
