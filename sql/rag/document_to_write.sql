-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.document_to_write(p_document_id uuid)
RETURNS rag.documents
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_document rag.documents;
BEGIN
  -- Whoever indexes it is waited for; what is deleted meanwhile is not found any more.
  PERFORM FROM rag.documents AS d WHERE d.tenant_id = core.require_tenant() AND d.id = p_document_id FOR UPDATE;
  v_document := rag.find_document(p_document_id);
  IF NOT v_document.collection_id = ANY (rag.writable_collections()) THEN
    PERFORM ops.raise_problem('forbidden', 'You may read the document''s collection, and not write to it.', jsonb_build_object('document_id', p_document_id));
  END IF;
  RETURN v_document;
END
$$;

COMMENT ON FUNCTION rag.document_to_write(uuid) IS 'Locks and returns a document of a collection that the current user may write to. Raises not_found, forbidden. Internal.';
