-- requires: 015_hybrid_search
-- BM25 (Robertson, Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009) over the candidates that
-- rag.text_plan names: the sum of weight * n / (n + k), where n is how often the chunk has the word and k grows with its length.
CREATE OR REPLACE FUNCTION rag.rank_chunks(
  p_tenant uuid, p_lexemes text[], p_chunks bigint[], p_weights double precision[], p_of double precision, p_filter jsonb, p_limit integer
)
RETURNS TABLE (chunk_id uuid, rank bigint, score double precision)
LANGUAGE plpgsql STABLE ROWS 40
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET max_parallel_workers_per_gather = 0
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
  c_k1 constant double precision := 1.2;
  c_b constant double precision := 0.75;
  v_settings rag.search_settings;
  v_words tsquery[] := ARRAY(SELECT rag.lexeme_query(l.lexeme) FROM unnest(p_lexemes) WITH ORDINALITY AS l (lexeme, n) ORDER BY l.n);
  v_plan record;
  v_chunks bigint;
  v_length double precision;
  v_any bigint[];
  v_all bigint[];
  v_scan tsquery;
  v_documents uuid[];
  v_most integer;
  v_ids uuid[] := '{}';
  v_scores double precision[] := '{}';
  v_more_ids uuid[];
  v_more_scores double precision[];
BEGIN
  SELECT * INTO v_settings FROM rag.settings_of(p_tenant);
  SELECT sum(s.chunks), sum(s.tokens)::double precision / sum(s.chunks) INTO v_chunks, v_length
  FROM rag.statistics AS s
  WHERE s.tenant_id = p_tenant;
  v_plan := rag.text_plan(p_lexemes, p_chunks, v_chunks, v_settings.candidates);
  v_any := rag.scoped_lexemes(p_tenant, array_to_tsvector(v_plan.any_of));
  v_all := rag.scoped_lexemes(p_tenant, array_to_tsvector(v_plan.all_of));
  IF (p_filter ->> 'chunks')::bigint <= v_settings.candidates THEN
    -- The documents that pass are few enough to be read whole.
    v_any := NULL;
    v_all := NULL;
    v_documents := rag.named_documents(p_filter);
    v_scan := (SELECT string_agg(w::text, ' | ')::tsquery FROM unnest(v_words) AS w);
  END IF;

  FOR pass IN 1..2 LOOP
    WITH found AS (
      SELECT c.tenant_id, c.id, c.document_id, c.search_text, c_k1 * (1 - c_b + c_b * c.token_count / v_length) AS k
      FROM (
        SELECT * FROM rag.chunks_with(v_any, v_all, v_most) WHERE v_scan IS NULL AND num_nonnulls(v_any, v_all) > 0
        UNION ALL
        SELECT * FROM rag.chunks_read(p_tenant, v_scan, p_filter, v_most) WHERE v_scan IS NOT NULL AND v_documents IS NULL
        UNION ALL
        SELECT * FROM rag.chunks_in(p_tenant, v_scan, v_documents) WHERE v_documents IS NOT NULL
      ) AS c
      OFFSET 0
    ), scored AS (
      SELECT f.id, (
        SELECT sum(w.weight * rag.saturation(ts_rank('{0.5, 0.5, 0.5, 1}', f.search_text, w.word), f.k))
        FROM unnest(v_words, p_weights) AS w (word, weight)
      ) AS score
      FROM found AS f
      WHERE f.tenant_id = p_tenant
        AND (p_filter IS NULL OR v_scan IS NOT NULL
          OR (SELECT rag.passes(d, p_filter) FROM rag.documents AS d WHERE d.tenant_id = f.tenant_id AND d.id = f.document_id))
    ), best AS (
      SELECT s.id, s.score FROM scored AS s WHERE s.score > 0 ORDER BY s.score DESC, s.id LIMIT p_limit
    )
    SELECT array_agg(b.id), array_agg(b.score) INTO v_more_ids, v_more_scores FROM best AS b;
    v_ids := v_ids || v_more_ids;
    v_scores := v_scores || v_more_scores;
    EXIT WHEN pass = 2 OR v_scan IS NOT NULL OR v_plan.scan_for IS NULL OR cardinality(v_ids) >= p_limit;

    -- Too few: some of those with the rarest of the common words, through the index or, where it is in so many that reading
    -- the tenant's chunks meets it sooner, without.
    v_most := v_settings.candidates / 4;
    v_all := NULL;
    v_any := rag.scoped_lexemes(p_tenant, array_to_tsvector(ARRAY[v_plan.scan_for]));
    IF p_filter IS NOT NULL OR v_most::double precision * v_chunks / v_plan.scan_chunks < 0.1 * v_plan.scan_chunks THEN
      v_scan := rag.lexeme_query(v_plan.scan_for);
    END IF;
  END LOOP;
  RETURN QUERY
  -- Those that are equally good have the same rank: the order of ids says nothing.
  SELECT u.id, rank() OVER (ORDER BY u.score DESC), least(u.score / p_of, 1)
  FROM (SELECT DISTINCT s.id, s.score FROM unnest(v_ids, v_scores) AS s (id, score)) AS u
  ORDER BY u.score DESC, u.id
  LIMIT p_limit;
END
$$;

COMMENT ON FUNCTION rag.rank_chunks(uuid, text[], bigint[], double precision[], double precision, jsonb, integer) IS
  'Chunks by BM25 for lexemes, the number of live chunks that have each, and the weight of each; the score is the share of p_of, what a chunk comes to that has every word of the query, '
  'of a long one the heaviest, endlessly often; at most 1. Internal: it trusts p_tenant.';
