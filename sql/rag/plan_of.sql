-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION rag.plan_of(p_statement text)
RETURNS text[]
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
-- As in the legs.
SET jit = off SET max_parallel_workers_per_gather = 0
SET enable_sort = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
  v_line text;
  v_lines text[] := '{}';
BEGIN
  FOR v_line IN EXECUTE 'EXPLAIN ' || p_statement LOOP
    -- Vectors and lists of keys are long.
    v_lines := v_lines || regexp_replace(v_line, '''(\[|\{)[^'']{40,}''', '''\1...''', 'g');
  END LOOP;
  RETURN v_lines;
END
$$;

COMMENT ON FUNCTION rag.plan_of(text) IS 'How PostgreSQL would execute a statement of a leg of rag.search; it is not executed. Internal.';
