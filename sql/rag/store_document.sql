-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.store_document(
  p_collection text, p_name text, p_media_type text, p_original bytea,
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
  v_version integer;
  v_digest bytea := sha256(p_original);
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

  -- The same bytes again have nothing to do, unless they failed before; new ones start over, while the old chunks answer.
  INSERT INTO rag.documents AS d (tenant_id, collection_id, name, media_type, size_bytes, content_sha256)
  VALUES (v_tenant, v_collection, p_name, p_media_type, length(p_original), v_digest)
  ON CONFLICT (tenant_id, collection_id, name) DO UPDATE
  SET size_bytes = excluded.size_bytes, content_sha256 = excluded.content_sha256, media_type = excluded.media_type, version = d.version + 1,
      status = 'received', stage = 'received', chunks_total = 0, chunks_embedded = 0, chunks_failed = 0, error_code = NULL, error_detail = NULL,
      attempts = 0, leased_by = NULL, leased_until = NULL, emitted_at = clock_timestamp(), updated_at = now()
  WHERE d.status = 'failed' OR (d.content_sha256, d.media_type) IS DISTINCT FROM (excluded.content_sha256, excluded.media_type)
  RETURNING d.id, d.version INTO v_document, v_version;
  IF v_document IS NULL THEN
    SELECT d.id INTO STRICT v_document
    FROM rag.documents AS d
    WHERE d.tenant_id = v_tenant AND d.collection_id = v_collection AND d.name = p_name;
    RETURN v_document;
  END IF;
  DELETE FROM rag.contents AS c
  USING rag.documents AS d
  WHERE c.tenant_id = v_tenant AND c.document_id = v_document AND d.tenant_id = v_tenant AND d.id = v_document
    AND c.version IS DISTINCT FROM d.live_version;
  INSERT INTO rag.contents (tenant_id, document_id, version, original) VALUES (v_tenant, v_document, v_version, p_original);
  RETURN v_document;
END
$$;

COMMENT ON FUNCTION rag.store_document(text, text, text, bytea, text, text) IS
  'Stores a document''s bytes under collection and name, replacing an older one, and asks for its indexing. Returns its id; NULL when the event that brought it was consumed before.';
GRANT EXECUTE ON FUNCTION rag.store_document(text, text, text, bytea, text, text) TO app;
