-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.remove_object(p_bucket text, p_object_key text, p_sequencer text, p_event_source text, p_event_id text)
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_document uuid;
  v_name text;
BEGIN
  PERFORM rag.hold_model();
  IF NOT events.mark_consumed('ingestion', p_event_source, p_event_id) OR NOT rag.note_object(p_bucket, p_object_key, p_sequencer) THEN
    RETURN NULL;
  END IF;
  DELETE FROM rag.documents AS d
  USING rag.bucket_objects AS o
  WHERE o.tenant_id = v_tenant AND o.bucket = p_bucket AND o.object_key = p_object_key
    AND d.tenant_id = v_tenant AND d.id = o.document_id
  RETURNING d.id, d.name INTO v_document, v_name;
  IF v_document IS NOT NULL THEN
    PERFORM compliance.append(v_tenant, 'document.deleted', v_document::text, jsonb_build_object('name', v_name, 'bucket', p_bucket));
  END IF;
  RETURN v_document;
END
$$;

COMMENT ON FUNCTION rag.remove_object(text, text, text, text, text) IS
  'Deletes the document that an object of a bucket was, because the object is gone, unless a newer notification of it was dealt with. Returns the document''s id, or NULL.';
GRANT EXECUTE ON FUNCTION rag.remove_object(text, text, text, text, text) TO app;
