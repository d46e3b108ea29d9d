-- requires: 015_hybrid_search
-- Without a SET clause, so that it is inlined and EXPLAIN shows its plan. Not by the tenant's column: it would make the planner read
-- all of the tenant's keys beside the index that has the tenant in its own.
CREATE OR REPLACE FUNCTION rag.chunks_with(p_any_of bigint[], p_all_of bigint[], p_most integer)
RETURNS TABLE (tenant_id uuid, id uuid, document_id uuid, token_count integer, search_text tsvector)
LANGUAGE sql STABLE
AS $$
  SELECT c.tenant_id, c.id, c.document_id, c.token_count, c.search_text
  FROM rag.chunks AS c
  WHERE c.live
    AND (rag.scoped_lexemes(c.tenant_id, c.search_text) && p_any_of OR rag.scoped_lexemes(c.tenant_id, c.search_text) @> p_all_of)
  LIMIT p_most
$$;

COMMENT ON FUNCTION rag.chunks_with(bigint[], bigint[], integer) IS
  'Live chunks with any of the words, or all of the others, each named by its key of the index chunks_lexemes. Internal.';
