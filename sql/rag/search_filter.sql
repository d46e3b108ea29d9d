-- requires: 015_hybrid_search
-- The one place that decides where somebody may search, and in which documents. Few documents are named, so that a search compares
-- with their chunks alone; where many pass, each chunk that is found is asked for its document (rag.passes).
CREATE OR REPLACE FUNCTION rag.search_filter(p_tenant uuid, p_collections text[], p_filter jsonb)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan SET enable_seqscan = off
AS $$
DECLARE
  c_known constant text[] := ARRAY['collections', 'media_types', 'metadata', 'dated_from', 'dated_before'];
  c_few constant integer := 1000;
  v_filter jsonb := coalesce(jsonb_strip_nulls(p_filter), '{}');
  v_names text[] := p_collections;
  v_collections uuid[];
  v_restricted boolean;
  v_wrong text;
  v_documents jsonb;
  v_number integer;
  v_chunks bigint;
BEGIN
  -- What the user may not read is not there. Where nothing is restricted nothing needs to be compared.
  v_restricted := EXISTS (SELECT FROM rag.collections AS c WHERE c.tenant_id = p_tenant AND c.visibility = 'restricted');
  IF NOT v_restricted AND num_nonnulls(p_collections, p_filter) = 0 THEN
    RETURN NULL;
  END IF;
  IF jsonb_typeof(v_filter) = 'object' THEN
    SELECT min(f.key) INTO v_wrong
    FROM jsonb_each(v_filter) AS f
    WHERE f.key <> ALL (c_known)
      OR jsonb_typeof(f.value) <> CASE WHEN f.key = 'metadata' THEN 'object' WHEN f.key IN ('dated_from', 'dated_before') THEN 'string' ELSE 'array' END
      OR (jsonb_typeof(f.value) = 'array' AND jsonb_path_exists(f.value, 'strict $[*] ? (@.type() != "string")'))
      OR (f.key IN ('dated_from', 'dated_before') AND NOT pg_input_is_valid(f.value #>> '{}', 'timestamptz'));
  ELSE
    v_wrong := v_filter::text;
  END IF;
  IF v_wrong IS NOT NULL THEN
    PERFORM ops.raise_problem('invalid_request', format(
      'filter: %s is not understood. It has collections and media_types (lists of texts), metadata (an object), dated_from and dated_before (moments).', left(v_wrong, 100)));
  END IF;

  IF v_filter ? 'collections' THEN
    v_names := ARRAY(
      SELECT e FROM jsonb_array_elements_text(v_filter -> 'collections') AS e WHERE p_collections IS NULL OR e = ANY (p_collections));
  END IF;
  IF v_names IS NOT NULL THEN
    SELECT array_agg(c.id), min(n.name) FILTER (WHERE c.id IS NULL) INTO v_collections, v_wrong
    FROM unnest(v_names) AS n (name)
    LEFT JOIN rag.collections AS c ON c.tenant_id = p_tenant AND c.name = n.name AND c.id = ANY (rag.readable_collections());
    IF v_wrong IS NOT NULL THEN
      PERFORM rag.raise_no_collection(v_wrong);
    END IF;
    v_collections := coalesce(v_collections, '{}');
  ELSIF v_restricted THEN
    v_collections := rag.readable_collections();
  END IF;
  IF v_collections IS NOT NULL THEN
    v_filter := v_filter || jsonb_build_object('collections', to_jsonb(v_collections));
  END IF;
  IF v_filter = '{}' THEN
    RETURN NULL;
  END IF;

  SELECT coalesce(jsonb_agg(d.id), '[]'), count(*), coalesce(sum(d.chunks_total), 0) INTO v_documents, v_number, v_chunks
  FROM (
    SELECT d.id, d.chunks_total
    FROM rag.documents AS d
    WHERE d.tenant_id = p_tenant AND d.live_version IS NOT NULL AND rag.passes(d, v_filter)
      AND (v_collections IS NULL OR d.collection_id = ANY (v_collections))
    LIMIT c_few + 1
  ) AS d;
  IF v_number <= c_few THEN
    RETURN jsonb_build_object('documents', v_documents, 'chunks', v_chunks);
  END IF;
  RETURN v_filter;
END
$$;

COMMENT ON FUNCTION rag.search_filter(uuid, text[], jsonb) IS
  'What a search may find: {documents: [id], chunks: about how many}, or {collections: [id], media_types, metadata, dated_from, dated_before} where these are many; NULL: everything of the '
  'tenant. Raises invalid_request, and not_found for a collection. Internal.';
