-- requires: 008_ingestion_pipeline
-- Sequencers are compared as AWS documents it: the shorter one is filled with zeros on the right.
CREATE OR REPLACE FUNCTION rag.note_object(p_bucket text, p_object_key text, p_sequencer text)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_sequencer text := lower(p_sequencer);
BEGIN
  -- Those that are gone for long: no notification of theirs is still on its way.
  DELETE FROM rag.bucket_objects AS o
  WHERE o.tenant_id = v_tenant AND o.document_id IS NULL AND o.changed_at < now() - interval '1 day'
    AND (o.bucket, o.object_key) <> (p_bucket, p_object_key);
  INSERT INTO rag.bucket_objects AS o (tenant_id, bucket, object_key, sequencer)
  VALUES (v_tenant, p_bucket, p_object_key, v_sequencer)
  ON CONFLICT (tenant_id, bucket, object_key) DO UPDATE
  SET sequencer = coalesce(excluded.sequencer, o.sequencer), changed_at = now()
  WHERE excluded.sequencer IS NULL OR o.sequencer IS NULL
    OR rpad(excluded.sequencer, greatest(length(excluded.sequencer), length(o.sequencer)), '0') COLLATE "C"
    >= rpad(o.sequencer, greatest(length(excluded.sequencer), length(o.sequencer)), '0') COLLATE "C";
  RETURN FOUND;
END
$$;

COMMENT ON FUNCTION rag.note_object(text, text, text) IS 'Locks an object of a bucket and notes its newest notification; false when a newer one was dealt with already. Internal.';
