-- requires: 015_hybrid_search
-- Without a SET clause, so that it is inlined.
CREATE OR REPLACE FUNCTION rag.settings_of(p_tenant uuid)
RETURNS SETOF rag.search_settings
LANGUAGE sql STABLE ROWS 1
AS $$
  SELECT p_tenant, coalesce(o.vector_weight, d.vector_weight), coalesce(o.text_weight, d.text_weight), coalesce(o.trigram_weight, d.trigram_weight),
    coalesce(o.rrf_k, d.rrf_k), coalesce(o.depth, d.depth), coalesce(o.exact_below, d.exact_below), coalesce(o.ef_search, d.ef_search),
    coalesce(o.max_scan_tuples, d.max_scan_tuples), coalesce(o.candidates, d.candidates),
    coalesce(o.spelling_similarity, d.spelling_similarity), coalesce(o.corrections, d.corrections),
    coalesce(o.duplicate_similarity, d.duplicate_similarity), coalesce(o.passage_tokens, d.passage_tokens), coalesce(o.updated_at, d.updated_at)
  FROM rag.search_settings AS d
  LEFT JOIN rag.search_settings AS o ON o.tenant_id = p_tenant
  WHERE d.tenant_id IS NULL
$$;

COMMENT ON FUNCTION rag.settings_of(uuid) IS 'How a tenant''s searches are done: its own settings where it has some, or else the platform''s. Internal: it trusts p_tenant.';
