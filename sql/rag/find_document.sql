-- requires: 008_ingestion_pipeline
-- It runs with the caller's rights: what is not there and what the caller may not know of are one.
CREATE OR REPLACE FUNCTION rag.find_document(p_document_id uuid)
RETURNS rag.documents
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_document rag.documents;
BEGIN
  SELECT * INTO v_document
  FROM rag.documents AS d
  WHERE d.tenant_id = core.require_tenant() AND d.id = p_document_id AND d.collection_id = ANY (rag.readable_collections());
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such document.', jsonb_build_object('document_id', p_document_id));
  END IF;
  RETURN v_document;
END
$$;

COMMENT ON FUNCTION rag.find_document(uuid) IS 'A document that the current user may read; raises not_found.';
GRANT EXECUTE ON FUNCTION rag.find_document(uuid) TO app;
