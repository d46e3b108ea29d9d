-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.etag(p_document rag.documents)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT p_document.id || '-' || p_document.version
$$;

COMMENT ON FUNCTION rag.etag(rag.documents) IS 'The entity tag of a document''s newest version, without its quotes (RFC 9110, section 8.8.3).';
GRANT EXECUTE ON FUNCTION rag.etag(rag.documents) TO app;
