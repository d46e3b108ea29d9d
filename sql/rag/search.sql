-- requires: 015_hybrid_search
-- SECURITY DEFINER, because @@ and && are not leakproof: under row-level security the planner would evaluate them after
-- the policy and could not use their indexes. In return the tenant predicate is in every leg, and an unset tenant raises.
-- STABLE, as the legs are: all of it sees what the calling statement sees, and not a version that is published meanwhile.
CREATE OR REPLACE FUNCTION rag.search(
  p_query text, p_embedding halfvec, p_collections text[] DEFAULT NULL, p_limit integer DEFAULT 5, p_filter jsonb DEFAULT NULL
)
RETURNS TABLE (
  chunk_id uuid, document_id uuid, document_name text, heading text, content text,
  score double precision, vector_rank integer, text_rank integer, trigram_rank integer,
  vector_score double precision, text_score double precision, trigram_score double precision,
  collection text, title text, media_type text, metadata jsonb, dated timestamptz,
  page integer, start_char integer, end_char integer, context_before text, context_after text
)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off
-- Joined in the order in which they are written, each time by key.
SET join_collapse_limit = 1 SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_settings rag.search_settings;
  v_filter jsonb := rag.search_filter(v_tenant, p_collections, p_filter);
  -- Some more than are asked for, because duplicates leave.
  v_compared integer := p_limit + p_limit / 2 + 10;
  c_compared constant integer := 60;
BEGIN
  SELECT * INTO v_settings FROM rag.settings_of(v_tenant);
  PERFORM rag.check_embedding(p_embedding);
  RETURN QUERY
  WITH fused AS MATERIALIZED (
    SELECT f.* FROM rag.fused_chunks(
      v_tenant, v_settings, p_query, p_embedding, v_filter, greatest(v_settings.depth, v_compared), v_compared) AS f
  ), chosen AS MATERIALIZED (
    SELECT f.*, c.document_id, c.version, c.ordinal, c.heading, c.content, c.page, c.start_char, c.end_char, c.token_count
    FROM (
      SELECT f.*
      FROM fused AS f
      WHERE f.chunk_id <> ALL ((
        SELECT rag.duplicates(v_tenant, array_agg(l.chunk_id ORDER BY l.place), p_limit, v_settings.duplicate_similarity)
        FROM fused AS l
        WHERE l.place <= c_compared)::uuid[])
      ORDER BY f.place
      LIMIT p_limit
    ) AS f
    JOIN rag.chunks AS c ON c.tenant_id = v_tenant AND c.id = f.chunk_id AND c.live
  )
  SELECT c.chunk_id, d.id, d.name, c.heading, c.content,
    c.score, c.vector_rank, c.text_rank, c.trigram_rank, c.vector_score, c.text_score, c.trigram_score,
    n.name, d.title, d.media_type, d.metadata, d.dated,
    c.page, c.start_char, c.end_char, coalesce(x.before, ''), coalesce(x.after, '')
  FROM chosen AS c
  JOIN rag.documents AS d ON d.tenant_id = v_tenant AND d.id = c.document_id
  JOIN rag.collections AS n ON n.tenant_id = v_tenant AND n.id = d.collection_id
  CROSS JOIN LATERAL (
    -- The chunks beside it, as far as the passage stays short and they are not results themselves. Chunks may overlap.
    SELECT max(left(b.content, c.start_char - b.start_char)) FILTER (WHERE b.ordinal < c.ordinal) AS before,
      max(substr(b.content, greatest(c.end_char - b.start_char, 0) + 1)) FILTER (WHERE b.ordinal > c.ordinal) AS after
    FROM (
      SELECT k.*, sum(k.token_count) OVER (ORDER BY k.ordinal) AS tokens
      FROM rag.chunks AS k
      WHERE k.tenant_id = v_tenant AND k.document_id = c.document_id AND k.version = c.version AND k.live
        AND k.ordinal IN (c.ordinal - 1, c.ordinal + 1) AND c.token_count < v_settings.passage_tokens
        AND NOT EXISTS (SELECT FROM chosen AS o WHERE o.chunk_id = k.id)
    ) AS b
    WHERE c.token_count + b.tokens <= v_settings.passage_tokens
  ) AS x
  ORDER BY c.place;
END
$$;

COMMENT ON FUNCTION rag.search(text, halfvec, text[], integer, jsonb) IS
  'The current tenant''s best passages for a query: vectors, full text and trigrams fused by rank, duplicates left out, with the text around each as its context. Without an embedding it '
  'searches text only. Collections, by name, limit it, and so does a filter {collections, media_types, metadata, dated_from, dated_before}: metadata that a document''s '
  'contains, and moments that its date lies between. Raises not_found, invalid_request, embedding_width_mismatch.';
GRANT EXECUTE ON FUNCTION rag.search(text, halfvec, text[], integer, jsonb) TO app;
