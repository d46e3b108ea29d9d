-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION rag.named_documents(p_filter jsonb)
RETURNS uuid[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT array_agg(d::uuid) FROM jsonb_array_elements_text(p_filter -> 'documents') AS d
$$;

COMMENT ON FUNCTION rag.named_documents(jsonb) IS 'The documents that a filter names, as rag.search_filter made it; NULL where it names none. Internal.';
