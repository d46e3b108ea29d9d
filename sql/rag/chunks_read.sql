-- requires: 015_hybrid_search
-- Without a SET clause, so that it is inlined and EXPLAIN shows its plan.
CREATE OR REPLACE FUNCTION rag.chunks_read(p_tenant uuid, p_words tsquery, p_filter jsonb, p_most integer)
RETURNS TABLE (tenant_id uuid, id uuid, document_id uuid, token_count integer, search_text tsvector)
LANGUAGE sql STABLE
AS $$
  SELECT c.tenant_id, c.id, c.document_id, c.token_count, c.search_text
  FROM rag.chunks AS c
  WHERE c.tenant_id = p_tenant AND c.live AND c.search_text @@ p_words
    AND (p_filter IS NULL
      OR (SELECT rag.passes(d, p_filter) FROM rag.documents AS d WHERE d.tenant_id = c.tenant_id AND d.id = c.document_id))
  LIMIT p_most
$$;

COMMENT ON FUNCTION rag.chunks_read(uuid, tsquery, jsonb, integer) IS
  'Live chunks with some word, by reading those of the tenant that pass until there are enough. Internal: it trusts p_tenant.';
