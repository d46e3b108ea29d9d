-- requires: 015_hybrid_search
-- Without a SET clause, so that it is inlined.
CREATE OR REPLACE FUNCTION rag.passes(p_document rag.documents, p_filter jsonb)
RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
  SELECT (p_filter -> 'documents' IS NULL OR p_filter -> 'documents' ? (p_document).id::text)
    AND (p_filter -> 'collections' IS NULL OR p_filter -> 'collections' ? (p_document).collection_id::text)
    AND (p_filter -> 'media_types' IS NULL OR p_filter -> 'media_types' ? (p_document).media_type)
    AND (p_filter -> 'metadata' IS NULL OR (p_document).metadata @> (p_filter -> 'metadata'))
    AND (p_filter -> 'dated_from' IS NULL OR (p_document).dated >= (p_filter ->> 'dated_from')::timestamptz)
    AND (p_filter -> 'dated_before' IS NULL OR (p_document).dated < (p_filter ->> 'dated_before')::timestamptz)
$$;

COMMENT ON FUNCTION rag.passes(rag.documents, jsonb) IS 'Whether a search with this filter, as rag.search_filter made it, may find a document. Internal.';
