-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION rag.explain_search(
  p_query text, p_embedding halfvec, p_collections text[] DEFAULT NULL, p_limit integer DEFAULT 5, p_filter jsonb DEFAULT NULL
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_settings rag.search_settings;
  v_filter jsonb := rag.search_filter(v_tenant, p_collections, p_filter);
  -- Which words there are, and how often, is told to those who may read all that has them.
  v_all boolean := rag.search_filter(v_tenant, NULL, NULL) IS NULL;
  v_depth integer;
  v_chunks bigint;
  v_words rag.query_word[];
  v_told jsonb;
  v_corrections jsonb;
  v_text record;
  v_method text;
  v_found bigint;
  v_began timestamptz;
  v_legs jsonb := '{}';
BEGIN
  PERFORM rag.check_embedding(p_embedding);
  SELECT * INTO v_settings FROM rag.settings_of(v_tenant);
  v_depth := greatest(v_settings.depth, p_limit + p_limit / 2 + 10);
  SELECT coalesce(sum(s.chunks), 0) INTO v_chunks FROM rag.statistics AS s WHERE s.tenant_id = v_tenant;

  IF p_embedding IS NOT NULL AND v_settings.vector_weight > 0 THEN
    SELECT m.method INTO v_method FROM rag.vector_method(v_tenant, v_filter, v_settings.exact_below) AS m;
    v_began := clock_timestamp();
    SELECT count(*) INTO v_found FROM rag.nearest_chunks(v_tenant, p_embedding, v_filter, v_depth, p_limit + p_limit / 2 + 10);
    v_legs := v_legs || jsonb_build_object('vector', jsonb_build_object(
      'method', v_method, 'found', v_found, 'ms', rag.milliseconds_since(v_began),
      'plan', rag.plan_of(CASE
        WHEN v_method = 'hnsw' THEN format('SELECT * FROM rag.nearest_by_index(%L, %L, %L, %s)', v_tenant, p_embedding, v_filter, v_depth)
        WHEN v_filter ? 'documents' THEN
          format('SELECT * FROM rag.nearest_in(%L, %L, %L, %s)', v_tenant, p_embedding, rag.named_documents(v_filter), v_depth)
        ELSE format('SELECT * FROM rag.nearest_exact(%L, %L, %L, %s)', v_tenant, p_embedding, v_filter, v_depth) END)));
  END IF;

  v_words := rag.query_words(v_tenant, p_query);
  SELECT jsonb_agg(jsonb_build_object('word', w.word, 'lexeme', w.lexeme)
      || CASE WHEN v_all THEN jsonb_build_object('chunks', w.chunks, 'weight', round(w.weight::numeric, 3)) ELSE '{}' END ORDER BY w.word, w.lexeme)
  INTO v_told
  FROM unnest(v_words) AS w;
  IF v_settings.text_weight > 0 THEN
    v_began := clock_timestamp();
    SELECT count(*) INTO v_found FROM rag.matching_chunks(v_tenant, v_words, v_filter, v_depth);
    v_legs := v_legs || jsonb_build_object('text', jsonb_build_object('found', v_found, 'ms', rag.milliseconds_since(v_began)));
    SELECT t.* INTO v_text
    FROM (
      SELECT array_agg(w.lexeme) AS lexemes, array_agg(w.chunks) AS chunks
      FROM rag.sought_words(v_words) AS w
    ) AS w
    CROSS JOIN LATERAL rag.text_plan(w.lexemes, w.chunks, v_chunks, v_settings.candidates) AS t;
    v_legs := jsonb_set(v_legs, '{text}', v_legs -> 'text' || jsonb_build_object(
      'any_of', v_text.any_of, 'all_of', v_text.all_of, 'otherwise', v_text.scan_for,
      'plan', rag.plan_of(CASE
        WHEN (v_filter ->> 'chunks')::bigint <= v_settings.candidates THEN
          format('SELECT * FROM rag.chunks_in(%L, %L, %L)', v_tenant, rag.lexeme_query(coalesce(v_text.any_of[1], v_text.scan_for, 'none')),
                 rag.named_documents(v_filter))
        ELSE format('SELECT * FROM rag.chunks_with(%L, %L, NULL)', rag.scoped_lexemes(v_tenant, array_to_tsvector(v_text.any_of)),
                    rag.scoped_lexemes(v_tenant, array_to_tsvector(v_text.all_of))) END)));
  END IF;

  IF v_settings.trigram_weight > 0 THEN
    SELECT jsonb_agg(jsonb_build_object('word', c.word, 'lexeme', c.lexeme, 'chunks', c.chunks, 'similarity', c.similarity)
                     ORDER BY c.word, c.similarity DESC)
    INTO v_corrections
    FROM rag.corrections(v_tenant, v_words) AS c;
    v_began := clock_timestamp();
    SELECT count(*) INTO v_found FROM rag.similar_chunks(v_tenant, v_words, v_filter, v_depth);
    v_legs := v_legs || jsonb_build_object('trigram', jsonb_build_object('found', v_found, 'ms', rag.milliseconds_since(v_began))
      || CASE WHEN v_all THEN jsonb_build_object('corrections', coalesce(v_corrections, '[]')) ELSE '{}' END);
  END IF;

  RETURN jsonb_build_object(
    'settings', to_jsonb(v_settings) - '{tenant_id,updated_at}'::text[],
    'filter', v_filter, 'chunks', v_chunks, 'depth', v_depth,
    'languages', (SELECT coalesce(jsonb_agg(s.language ORDER BY s.chunks DESC), '[]') FROM rag.statistics AS s WHERE s.tenant_id = v_tenant),
    'words', coalesce(v_told, '[]'), 'legs', v_legs);
END
$$;

COMMENT ON FUNCTION rag.explain_search(text, halfvec, text[], integer, jsonb) IS
  'How rag.search does what it is asked: {settings, filter, chunks, depth, languages, words: [{word, lexeme, chunks, weight}], legs: {vector: {method, found, ms, plan}, text: {found, '
  'ms, any_of, all_of, otherwise, plan}, trigram: {found, ms, corrections}}}; plan is the output of EXPLAIN.';
