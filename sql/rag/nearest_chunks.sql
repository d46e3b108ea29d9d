-- requires: 015_hybrid_search
-- HNSW filters after its scan: where few of the rows around the query are the tenant's, or pass, it reads on for long. So with few
-- vectors to compare with, all are.
CREATE OR REPLACE FUNCTION rag.nearest_chunks(p_tenant uuid, p_embedding halfvec, p_filter jsonb, p_limit integer, p_needed integer DEFAULT NULL)
RETURNS TABLE (chunk_id uuid, rank bigint, distance double precision)
LANGUAGE plpgsql STABLE ROWS 40
SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan SET jit = off SET max_parallel_workers_per_gather = 0 SET enable_seqscan = off
-- With sorting off the index is the only cheap way to an order by distance: the planner would at times rather sort a tenant's rows.
SET enable_sort = off
AS $$
DECLARE
  v_settings record;
  v_chunks uuid[];
  v_distances double precision[];
BEGIN
  SELECT o.ef_search, o.max_scan_tuples, m.method INTO v_settings
  FROM rag.settings_of(p_tenant) AS o
  CROSS JOIN LATERAL rag.vector_method(p_tenant, p_filter, o.exact_below) AS m (method);
  IF v_settings.method = 'hnsw' THEN
    PERFORM set_config('hnsw.ef_search', v_settings.ef_search::text, true);
    -- Since pgvector 0.8 the scan goes on until it has enough; before, it ends with ef_search candidates.
    IF (SELECT string_to_array(e.extversion, '.')::integer[] >= ARRAY[0, 8] FROM pg_extension AS e WHERE e.extname = 'vector') THEN
      PERFORM set_config('hnsw.iterative_scan', 'relaxed_order', true),
        set_config('hnsw.max_scan_tuples', v_settings.max_scan_tuples::text, true);
    END IF;
    SELECT array_agg(n.chunk_id), array_agg(n.distance) INTO v_chunks, v_distances
    FROM rag.nearest_by_index(p_tenant, p_embedding, p_filter, p_limit) AS n;
    -- Never fewer than are needed and there: an index scan that ended early is not the last word.
    IF cardinality(v_chunks) >= coalesce(p_needed, p_limit) THEN
      RETURN QUERY
      SELECT n.id, row_number() OVER (ORDER BY n.distance, n.id), n.distance FROM unnest(v_chunks, v_distances) AS n (id, distance);
      RETURN;
    END IF;
  END IF;
  IF p_filter ? 'documents' THEN
    RETURN QUERY
    SELECT n.chunk_id, row_number() OVER (ORDER BY n.distance, n.chunk_id), n.distance
    FROM rag.nearest_in(p_tenant, p_embedding, rag.named_documents(p_filter), p_limit) AS n;
  ELSE
    RETURN QUERY
    SELECT n.chunk_id, row_number() OVER (ORDER BY n.distance, n.chunk_id), n.distance
    FROM rag.nearest_exact(p_tenant, p_embedding, p_filter, p_limit) AS n;
  END IF;
END
$$;

COMMENT ON FUNCTION rag.nearest_chunks(uuid, halfvec, jsonb, integer, integer) IS
  'The vector leg of rag.search: chunks by cosine distance, as rag.vector_method says, and exactly where the index finds fewer than are needed, by default as many as may be. '
  'Internal: it trusts p_tenant.';
