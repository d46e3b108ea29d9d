-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.store_document(
  p_collection text, p_name text, p_media_type text, p_content text,
  p_event_source text DEFAULT NULL, p_event_id text DEFAULT NULL
)
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_collection uuid;
  v_document uuid;
BEGIN
  IF NOT EXISTS (SELECT FROM core.tenants AS t WHERE t.id = v_tenant) THEN
    PERFORM ops.raise_problem('tenant_unset', 'The token names a tenant that does not exist.');
  END IF;
  IF p_event_id IS NOT NULL AND NOT events.mark_consumed('ingestion', p_event_source, p_event_id) THEN
    RETURN NULL;
  END IF;

  INSERT INTO rag.collections (tenant_id, name) VALUES (v_tenant, p_collection)
  ON CONFLICT (tenant_id, name) DO NOTHING;
  SELECT c.id INTO STRICT v_collection FROM rag.collections AS c WHERE c.tenant_id = v_tenant AND c.name = p_collection;

  -- The same text again has nothing to do, unless it failed before; a new text starts over, while the old chunks answer.
  INSERT INTO rag.documents AS d (tenant_id, collection_id, name, media_type, content)
  VALUES (v_tenant, v_collection, p_name, p_media_type, p_content)
  ON CONFLICT (tenant_id, collection_id, name) DO UPDATE
  SET content = excluded.content, media_type = excluded.media_type, version = d.version + 1,
      status = 'received', stage = 'received', chunks_total = 0, chunks_embedded = 0, error_code = NULL, error_detail = NULL,
      attempts = 0, leased_by = NULL, leased_until = NULL, emitted_at = clock_timestamp(), updated_at = now()
  WHERE d.status = 'failed' OR (d.content, d.media_type) IS DISTINCT FROM (excluded.content, excluded.media_type)
  RETURNING d.id INTO v_document;
  IF v_document IS NULL THEN
    SELECT d.id INTO STRICT v_document
    FROM rag.documents AS d
    WHERE d.tenant_id = v_tenant AND d.collection_id = v_collection AND d.name = p_name;
  END IF;
  RETURN v_document;
END
$$;

COMMENT ON FUNCTION rag.store_document(text, text, text, text, text, text) IS
  'Stores a text under collection and name, replacing an older one, and asks for its indexing. Returns its id; NULL when the event that brought it was consumed before.';
GRANT EXECUTE ON FUNCTION rag.store_document(text, text, text, text, text, text) TO app;
