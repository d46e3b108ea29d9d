-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION chat.retrieval_mode(p_embedding text, p_reranked jsonb)
RETURNS jsonb
LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE WHEN p_embedding IS NULL THEN '{"mode": "text", "reason": "embedding_unavailable"}' ELSE '{"mode": "hybrid"}' END::jsonb
    || CASE WHEN p_reranked IS NULL THEN '{}' ELSE jsonb_build_object('rerank', p_reranked -> 'outcome') END
$$;

COMMENT ON FUNCTION chat.retrieval_mode(text, jsonb) IS
  'How a turn searches: {mode: hybrid}, or {mode: text, reason} without an embedding; and rerank, where a reranking model was asked: done, or why not.';
