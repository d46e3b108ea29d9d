-- requires: 015_hybrid_search
-- What rag.search cannot do, because it looks at one moment only: hold the vectors until the question has been compared with them.
CREATE OR REPLACE FUNCTION rag.find(
  p_query text, p_embedding halfvec DEFAULT NULL, p_embedding_model integer DEFAULT NULL, p_collections text[] DEFAULT NULL, p_limit integer DEFAULT 5,
  p_filter jsonb DEFAULT NULL, p_explain boolean DEFAULT false, p_held uuid DEFAULT NULL, p_held_tokens bigint DEFAULT NULL
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_found jsonb;
BEGIN
  PERFORM core.require_tenant();
  IF p_embedding_model IS NOT NULL THEN
    PERFORM rag.require_model(p_embedding_model);
  END IF;
  v_found := jsonb_build_object(
    'results', (
      SELECT coalesce(jsonb_agg(to_jsonb(s) - 'ordinality' ORDER BY s.ordinality), '[]')
      FROM rag.search(p_query, p_embedding, p_collections, p_limit, p_filter) WITH ORDINALITY AS s),
    'plan', CASE WHEN p_explain THEN rag.explain_search(p_query, p_embedding, p_collections, p_limit, p_filter) END);
  -- Last, because it locks the tenant's balances until the commit.
  IF p_held IS NOT NULL THEN
    PERFORM budget.settle_embedding(p_held, p_held_tokens);
  END IF;
  RETURN v_found;
END
$$;

COMMENT ON FUNCTION rag.find(text, halfvec, integer, text[], integer, jsonb, boolean, uuid, bigint) IS
  'The search of the retrieval function: {results: the rows of rag.search, plan: rag.explain_search where it is asked for}. p_embedding_model: whose vector p_embedding is; p_held, '
  'p_held_tokens: what budget.settle_embedding is to end with the search. Raises as '
  'rag.search, and embedding_model_changed.';
GRANT EXECUTE ON FUNCTION rag.find(text, halfvec, integer, text[], integer, jsonb, boolean, uuid, bigint) TO app;
