-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.read_text(p_document_id uuid, p_start integer DEFAULT 0, p_end integer DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_document rag.documents := rag.find_document(p_document_id);
  v_content record;
BEGIN
  -- The version that searches see, to which citations point; before there is one, the newest.
  SELECT c.version, c.body, length(c.body) AS length INTO v_content
  FROM rag.contents AS c
  WHERE c.tenant_id = v_document.tenant_id AND c.document_id = p_document_id AND c.version = coalesce(v_document.live_version, v_document.version);
  IF v_content.body IS NULL THEN
    PERFORM ops.raise_problem('conflict', 'The document has no text yet.', jsonb_build_object('document_id', p_document_id, 'status', v_document.status));
  END IF;
  RETURN jsonb_build_object(
    'document_id', p_document_id, 'version', v_content.version, 'start', p_start, 'length', v_content.length,
    'text', substr(v_content.body, p_start + 1, greatest(coalesce(p_end, v_content.length) - p_start, 0)));
END
$$;

COMMENT ON FUNCTION rag.read_text(uuid, integer, integer) IS
  'The extracted text of a document, or its characters from p_start (0: the first) up to p_end: {document_id, version, start, length (of the whole), text}. Raises not_found, conflict.';
GRANT EXECUTE ON FUNCTION rag.read_text(uuid, integer, integer) TO app;
