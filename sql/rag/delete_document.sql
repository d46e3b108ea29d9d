-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.delete_document(p_document_id uuid, p_expected text[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_document rag.documents;
BEGIN
  PERFORM core.require_operation('documents.delete');
  PERFORM rag.hold_model();
  -- The object of a bucket before its document, as whoever follows the bucket.
  PERFORM FROM rag.bucket_objects AS o WHERE o.tenant_id = v_tenant AND o.document_id = p_document_id FOR UPDATE;
  v_document := rag.document_to_write(p_document_id);
  PERFORM rag.check_expected(v_document, p_expected);
  DELETE FROM rag.documents AS d WHERE d.tenant_id = v_tenant AND d.id = p_document_id;
  PERFORM compliance.append(v_tenant, 'document.deleted', p_document_id::text,
                            jsonb_build_object('name', v_document.name, 'version', v_document.version));
END
$$;

COMMENT ON FUNCTION rag.delete_document(uuid, text[]) IS
  'Deletes a document with its contents, passages and vectors, whoever indexes it at the moment; answers keep what they quote. Raises not_found, forbidden, precondition_failed.';
GRANT EXECUTE ON FUNCTION rag.delete_document(uuid, text[]) TO app;
