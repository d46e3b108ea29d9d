-- requires: 015_hybrid_search
-- Without a SET clause, so that it is inlined and EXPLAIN shows its plan.
CREATE OR REPLACE FUNCTION rag.chunks_in(p_tenant uuid, p_words tsquery, p_documents uuid[])
RETURNS TABLE (tenant_id uuid, id uuid, document_id uuid, token_count integer, search_text tsvector)
LANGUAGE sql STABLE
AS $$
  SELECT c.tenant_id, c.id, c.document_id, c.token_count, c.search_text
  FROM rag.chunks AS c
  WHERE c.tenant_id = p_tenant AND c.live AND c.search_text @@ p_words
    AND c.document_id = ANY (p_documents)
$$;

COMMENT ON FUNCTION rag.chunks_in(uuid, tsquery, uuid[]) IS
  'Live chunks with some word, by reading those of some documents. Internal: it trusts p_tenant.';
