-- requires: 008_ingestion_pipeline
-- One transaction, whatever the size: a search sees all of it or nothing. A passage costs some 15 microseconds.
CREATE OR REPLACE FUNCTION rag.delete_collection(p_name text)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_collection rag.collections;
  v_documents integer;
BEGIN
  PERFORM core.require_operation('collections.delete');
  v_collection := rag.collection_to_manage(p_name);
  PERFORM rag.hold_model();
  -- The objects of buckets before their documents, as whoever follows a bucket.
  PERFORM FROM rag.bucket_objects AS o
  JOIN rag.documents AS d ON d.tenant_id = o.tenant_id AND d.id = o.document_id
  WHERE o.tenant_id = v_tenant AND d.collection_id = v_collection.id
  ORDER BY o.bucket, o.object_key
  FOR UPDATE OF o;
  PERFORM FROM rag.documents AS d WHERE d.tenant_id = v_tenant AND d.collection_id = v_collection.id ORDER BY d.id FOR UPDATE;
  DELETE FROM rag.documents AS d WHERE d.tenant_id = v_tenant AND d.collection_id = v_collection.id;
  GET DIAGNOSTICS v_documents = ROW_COUNT;
  DELETE FROM rag.collections AS c WHERE c.tenant_id = v_tenant AND c.id = v_collection.id;
  PERFORM compliance.append(v_tenant, 'collection.deleted', v_collection.id::text, jsonb_build_object('name', p_name, 'documents', v_documents));
  RETURN v_documents;
END
$$;

COMMENT ON FUNCTION rag.delete_collection(text) IS
  'Deletes a collection that the current user manages with all documents, passages and vectors; answers keep what they quote. Returns how many documents. Raises not_found, forbidden.';
GRANT EXECUTE ON FUNCTION rag.delete_collection(text) TO app;
