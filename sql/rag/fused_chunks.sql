-- requires: 015_hybrid_search
-- Reciprocal rank fusion: Cormack, Clarke, Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank
-- Learning Methods", SIGIR 2009. Ranks alone would give the best chunk of a leg that has found nothing of worth the same say as that of
-- one which has. Vectors always find something near; of words a chunk may have one of ten. So what the text legs find counts by the
-- share of the query's words, by their information, that a chunk has.
-- How its statement is planned is said by rag.search, which calls it.
CREATE OR REPLACE FUNCTION rag.fused_chunks(
  p_tenant uuid, p_settings rag.search_settings, p_query text, p_embedding halfvec, p_filter jsonb, p_depth integer, p_needed integer
)
RETURNS TABLE (
  chunk_id uuid, place bigint, score double precision, vector_rank integer, text_rank integer, trigram_rank integer,
  vector_score double precision, text_score double precision, trigram_score double precision
)
LANGUAGE plpgsql STABLE ROWS 100
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_words rag.query_word[] := rag.query_words(p_tenant, p_query);
BEGIN
  RETURN QUERY
  WITH found AS (
    SELECT n.chunk_id, 'vector' AS leg, n.rank, p_settings.vector_weight AS weight, 1.0::double precision AS share, 1 - n.distance AS score
    FROM rag.nearest_chunks(p_tenant, p_embedding, p_filter, p_depth, p_needed) AS n
    WHERE p_embedding IS NOT NULL AND p_settings.vector_weight > 0
    UNION ALL
    SELECT m.chunk_id, 'text', m.rank, p_settings.text_weight, m.score, m.score
    FROM rag.matching_chunks(p_tenant, v_words, p_filter, p_depth) AS m
    WHERE p_settings.text_weight > 0
    UNION ALL
    SELECT s.chunk_id, 'trigram', s.rank, p_settings.trigram_weight, s.score, s.score
    FROM rag.similar_chunks(p_tenant, v_words, p_filter, p_depth) AS s
    WHERE p_settings.trigram_weight > 0
  ), fused AS (
    SELECT f.chunk_id,
      sum(f.weight * f.share / (p_settings.rrf_k + f.rank))::double precision AS score,
      (min(f.rank) FILTER (WHERE f.leg = 'vector'))::integer AS vector_rank,
      (min(f.rank) FILTER (WHERE f.leg = 'text'))::integer AS text_rank,
      (min(f.rank) FILTER (WHERE f.leg = 'trigram'))::integer AS trigram_rank,
      min(f.score) FILTER (WHERE f.leg = 'vector') AS vector_score,
      min(f.score) FILTER (WHERE f.leg = 'text') AS text_score,
      min(f.score) FILTER (WHERE f.leg = 'trigram') AS trigram_score
    FROM found AS f
    GROUP BY f.chunk_id
  )
  SELECT f.chunk_id, row_number() OVER (ORDER BY f.score DESC, f.vector_rank, f.text_rank, f.chunk_id), f.score,
    f.vector_rank, f.text_rank, f.trigram_rank, f.vector_score, f.text_score, f.trigram_score
  FROM fused AS f;
END
$$;

COMMENT ON FUNCTION rag.fused_chunks(uuid, rag.search_settings, text, halfvec, jsonb, integer, integer) IS
  'What the legs find, each up to a depth, by the sum of weight / (k + rank), for the text legs times their score; the score of the vector leg is cosine similarity, '
  'those of the others are shares of the query''s words. Without an embedding '
  'that leg is left out. Internal: it trusts p_tenant.';
