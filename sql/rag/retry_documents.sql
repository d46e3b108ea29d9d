-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.retry_documents(p_collection text)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_collection uuid;
  v_documents integer;
BEGIN
  PERFORM core.require_operation('documents.write');
  SELECT c.id INTO v_collection
  FROM rag.collections AS c
  WHERE c.tenant_id = v_tenant AND c.name = p_collection AND c.id = ANY (rag.readable_collections());
  IF NOT FOUND THEN
    PERFORM rag.raise_no_collection(p_collection);
  END IF;
  -- The model before the documents, and these in the order of their ids, as whoever else locks several.
  PERFORM rag.hold_model();
  SELECT count(rag.retry_document(d.id)) INTO v_documents
  FROM (
    SELECT f.id FROM rag.documents AS f
    WHERE f.tenant_id = v_tenant AND f.collection_id = v_collection AND (f.status = 'failed' OR f.chunks_failed > 0)
    ORDER BY f.id
    FOR UPDATE
  ) AS d;
  RETURN v_documents;
END
$$;

COMMENT ON FUNCTION rag.retry_documents(text) IS 'Begins again what has failed of every document of a collection (rag.retry_document); returns how many. Raises not_found, forbidden.';
GRANT EXECUTE ON FUNCTION rag.retry_documents(text) TO app;
