-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION rag.store_chunks(
  p_document_id uuid, p_version integer, p_worker text, p_body text, p_details jsonb, p_chunks jsonb, p_event_source text, p_event_id text
)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_language text := coalesce(p_details ->> 'language', rag.detect_language(p_body));
BEGIN
  UPDATE rag.documents AS d
  SET stage = 'embedding', title = coalesce(p_details ->> 'title', ''), language = v_language,
      metadata = coalesce(p_details -> 'metadata', '{}') || d.metadata, dated = coalesce(d.dated, (p_details ->> 'dated')::timestamptz),
      pages = (p_details ->> 'pages')::integer, chunks_total = jsonb_array_length(p_chunks), leased_by = NULL, leased_until = NULL, updated_at = now()
  WHERE d.tenant_id = v_tenant AND d.id = p_document_id AND d.version = p_version
    AND d.status = 'processing' AND d.leased_by = p_worker;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('lease_lost', 'The document was replaced, deleted or taken over by another worker.');
  END IF;
  UPDATE rag.contents AS c SET body = p_body
  WHERE c.tenant_id = v_tenant AND c.document_id = p_document_id AND c.version = p_version;
  -- A trigger queues them for their vectors.
  INSERT INTO rag.chunks (tenant_id, document_id, version, ordinal, heading, page, content, start_char, end_char, token_count, language)
  SELECT v_tenant, p_document_id, p_version, n.ordinal, n.heading, n.page, n.content, n.start_char, n.end_char, n.token_count, v_language
  FROM jsonb_to_recordset(p_chunks) AS n (
    ordinal integer, heading text, page integer, content text, start_char integer, end_char integer, token_count integer);
  UPDATE rag.documents AS d
  SET chunks_embedded = (
    SELECT count(*) FROM rag.embedding_queue AS q
    WHERE q.tenant_id = v_tenant AND q.document_id = p_document_id AND q.version = p_version AND q.status = 'done' AND q.model_id = rag.hold_model())
  WHERE d.tenant_id = v_tenant AND d.id = p_document_id;
  PERFORM events.mark_consumed('ingestion', p_event_source, p_event_id);
  RETURN rag.finish_document(v_tenant, p_document_id);
END
$$;

COMMENT ON FUNCTION rag.store_chunks(uuid, integer, text, text, jsonb, jsonb, text, text) IS
  'Stores what was found in a document, and ends the lease: its text, details {title, pages, metadata, language, dated}, where a language that is '
  'not told is detected, and chunks [{ordinal, heading, page, content, start_char, '
  'end_char, token_count}], which searches see once they have their vectors. Returns indexed where all vectors were there already. Raises lease_lost.';
GRANT EXECUTE ON FUNCTION rag.store_chunks(uuid, integer, text, text, jsonb, jsonb, text, text) TO app;
