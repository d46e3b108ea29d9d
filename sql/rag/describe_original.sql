-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.describe_original(p_document_id uuid)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_document rag.documents := rag.find_document(p_document_id);
BEGIN
  RETURN jsonb_build_object(
    'version', v_document.version, 'name', v_document.name, 'media_type', v_document.media_type, 'size_bytes', v_document.size_bytes,
    'etag', rag.etag(v_document));
END
$$;

COMMENT ON FUNCTION rag.describe_original(uuid) IS 'What the original of a document''s newest version is, to be read in slices: {version, name, media_type, size_bytes, etag}; raises not_found.';
GRANT EXECUTE ON FUNCTION rag.describe_original(uuid) TO app;
