-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.consume_requested(p_document_id uuid, p_version integer, p_event_source text, p_event_id text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF rag.wants_embeddings(core.require_tenant(), p_document_id, p_version) THEN
    RETURN false;
  END IF;
  PERFORM events.mark_consumed('embedding', p_event_source, p_event_id);
  RETURN true;
END
$$;

COMMENT ON FUNCTION rag.consume_requested(uuid, integer, text, text) IS
  'Records that an embedding.requested is dealt with, unless chunks of the version that it names still wait; returns whether it is. Internal.';
