-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.store_object(
  p_bucket text, p_object_key text, p_sequencer text, p_collection text, p_name text, p_media_type text, p_original bytea,
  p_metadata jsonb, p_event_source text, p_event_id text
)
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_document uuid;
BEGIN
  IF NOT rag.note_object(p_bucket, p_object_key, p_sequencer) THEN
    PERFORM events.mark_consumed('ingestion', p_event_source, p_event_id);
    RETURN NULL;
  END IF;
  v_document := rag.store_document(p_collection, p_name, p_media_type, p_original, p_event_source, p_event_id, p_metadata);
  UPDATE rag.bucket_objects AS o
  SET document_id = v_document
  WHERE o.tenant_id = v_tenant AND o.bucket = p_bucket AND o.object_key = p_object_key AND v_document IS NOT NULL;
  RETURN v_document;
END
$$;

COMMENT ON FUNCTION rag.store_object(text, text, text, text, text, text, bytea, jsonb, text, text) IS
  'Stores an object of a bucket as a document (rag.store_document), unless a newer notification of it was dealt with. Returns the document''s id, or NULL.';
GRANT EXECUTE ON FUNCTION rag.store_object(text, text, text, text, text, text, bytea, jsonb, text, text) TO app;
