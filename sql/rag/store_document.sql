-- requires: 017_long_ingestion
CREATE OR REPLACE FUNCTION rag.store_document(
  p_collection text, p_name text, p_media_type text, p_original bytea,
  p_event_source text DEFAULT NULL, p_event_id text DEFAULT NULL,
  p_metadata jsonb DEFAULT NULL, p_dated timestamptz DEFAULT NULL, p_expected text[] DEFAULT NULL
)
RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_collection uuid;
  v_document rag.documents;
  v_digest bytea := sha256(p_original);
BEGIN
  IF NOT EXISTS (SELECT FROM core.tenants AS t WHERE t.id = v_tenant) THEN
    PERFORM ops.raise_problem('tenant_unset', 'The token names a tenant that does not exist.');
  END IF;
  IF p_event_id IS NOT NULL AND NOT events.mark_consumed('ingestion', p_event_source, p_event_id) THEN
    RETURN NULL;
  END IF;
  v_collection := rag.collection_to_write(p_collection);

  -- 1. The document of that name, which is locked, or a new one; somebody else may make it at the same moment.
  LOOP
    SELECT * INTO v_document
    FROM rag.documents AS d
    WHERE d.tenant_id = v_tenant AND d.collection_id = v_collection AND d.name = p_name
    FOR UPDATE;
    PERFORM rag.check_expected(v_document, p_expected);
    EXIT WHEN v_document.id IS NOT NULL;
    INSERT INTO rag.documents AS d (tenant_id, collection_id, name, media_type, size_bytes, large, content_sha256, metadata, dated)
    VALUES (
      v_tenant, v_collection, p_name, p_media_type, length(p_original), rag.is_large(length(p_original)), v_digest, coalesce(p_metadata, '{}'), p_dated)
    ON CONFLICT (tenant_id, collection_id, name) DO NOTHING
    RETURNING * INTO v_document;
    IF FOUND THEN
      INSERT INTO rag.contents (tenant_id, document_id, version, original) VALUES (v_tenant, v_document.id, v_document.version, p_original);
      RETURN v_document.id;
    END IF;
  END LOOP;

  -- 2. The same bytes again have nothing to do, unless they failed before.
  IF v_document.status <> 'failed' AND (v_document.content_sha256, v_document.media_type) = (v_digest, p_media_type) THEN
    UPDATE rag.documents AS d
    SET metadata = d.metadata || coalesce(p_metadata, '{}'), dated = coalesce(p_dated, d.dated), updated_at = now()
    WHERE d.tenant_id = v_tenant AND d.id = v_document.id
      AND (d.metadata || coalesce(p_metadata, '{}'), coalesce(p_dated, d.dated)) IS DISTINCT FROM (d.metadata, d.dated);
    RETURN v_document.id;
  END IF;

  -- 3. Others are a new version, which starts over while the old chunks answer.
  UPDATE rag.documents AS d
  SET size_bytes = length(p_original), large = rag.is_large(length(p_original)), content_sha256 = v_digest, media_type = p_media_type, version = d.version + 1,
      metadata = coalesce(p_metadata, '{}'), dated = p_dated,
      status = 'received', stage = 'received', chunks_total = 0, chunks_embedded = 0, chunks_failed = 0, error_code = NULL, error_detail = NULL,
      attempts = 0, leased_by = NULL, leased_until = NULL, emitted_at = clock_timestamp(), updated_at = now()
  WHERE d.tenant_id = v_tenant AND d.id = v_document.id
  RETURNING * INTO v_document;
  DELETE FROM rag.contents AS c
  WHERE c.tenant_id = v_tenant AND c.document_id = v_document.id AND c.version IS DISTINCT FROM v_document.live_version;
  INSERT INTO rag.contents (tenant_id, document_id, version, original) VALUES (v_tenant, v_document.id, v_document.version, p_original);
  RETURN v_document.id;
END
$$;

COMMENT ON FUNCTION rag.store_document(text, text, text, bytea, text, text, jsonb, timestamptz, text[]) IS
  'Stores a document''s bytes under collection and name, replacing an older one, and asks for its indexing. Returns its id; NULL when the event that brought it was consumed before. '
  'p_expected as in rag.check_expected. Raises not_found, forbidden, precondition_failed.';
GRANT EXECUTE ON FUNCTION rag.store_document(text, text, text, bytea, text, text, jsonb, timestamptz, text[]) TO app;
