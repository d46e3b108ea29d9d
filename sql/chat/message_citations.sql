-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION chat.message_citations(p_message_id uuid)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object(
    'n', c.ordinal, 'document', c.document_name, 'heading', c.heading, 'quote', c.quote,
    'document_id', c.document_id, 'chunk_id', c.chunk_id,
    'page', c.page, 'start_char', c.start_char, 'end_char', c.end_char) ORDER BY c.ordinal), '[]')
  FROM chat.citations AS c
  WHERE c.tenant_id = core.require_tenant() AND c.message_id = p_message_id
$$;

COMMENT ON FUNCTION chat.message_citations(uuid) IS 'What an answer cites: [{n, document, heading, quote, document_id, chunk_id, page, start_char, end_char}].';
GRANT EXECUTE ON FUNCTION chat.message_citations(uuid) TO app;
