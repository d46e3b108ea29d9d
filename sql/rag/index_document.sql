-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.index_document(
  p_document_id uuid, p_version integer, p_worker text, p_body text, p_chunks jsonb, p_event_source text, p_event_id text
)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  UPDATE rag.documents AS d
  SET status = 'indexed', stage = 'indexed', live_version = p_version, chunks_total = jsonb_array_length(p_chunks),
      chunks_embedded = jsonb_array_length(p_chunks), leased_by = NULL, leased_until = NULL, updated_at = now()
  WHERE d.tenant_id = v_tenant AND d.id = p_document_id AND d.version = p_version
    AND d.status = 'processing' AND d.leased_by = p_worker;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('lease_lost', 'The document was replaced, deleted or taken over by another worker.');
  END IF;
  PERFORM rag.check_embedding((p_chunks #>> '{0,embedding}')::halfvec);
  -- In one transaction: a search sees the old chunks or the new ones, never a mix.
  DELETE FROM rag.chunks AS c WHERE c.tenant_id = v_tenant AND c.document_id = p_document_id;
  WITH n AS (
    INSERT INTO rag.chunks (tenant_id, document_id, version, live, ordinal, heading, content, start_char, end_char, token_count)
    SELECT v_tenant, p_document_id, p_version, true, n.ordinal, n.heading, n.content, n.start_char, n.end_char, n.token_count
    FROM jsonb_to_recordset(p_chunks) AS n (
      ordinal integer, heading text, content text, start_char integer, end_char integer, token_count integer)
    RETURNING id, ordinal
  )
  INSERT INTO rag.embeddings (tenant_id, chunk_id, document_id, embedding)
  SELECT v_tenant, n.id, p_document_id, v.embedding::halfvec
  FROM jsonb_to_recordset(p_chunks) AS v (ordinal integer, embedding text)
  JOIN n USING (ordinal);
  UPDATE rag.contents AS c SET body = p_body
  WHERE c.tenant_id = v_tenant AND c.document_id = p_document_id AND c.version = p_version;
  DELETE FROM rag.contents AS c
  WHERE c.tenant_id = v_tenant AND c.document_id = p_document_id AND c.version < p_version;
  PERFORM events.mark_consumed('ingestion', p_event_source, p_event_id);
END
$$;

COMMENT ON FUNCTION rag.index_document(uuid, integer, text, text, jsonb, text, text) IS
  'Replaces a document''s chunks by [{ordinal, heading, content, start_char, end_char, token_count, embedding: "[...]"}] and ends the lease; raises lease_lost.';
GRANT EXECUTE ON FUNCTION rag.index_document(uuid, integer, text, text, jsonb, text, text) TO app;
