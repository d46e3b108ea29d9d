-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.next_indexes()
RETURNS TABLE (name text, statement text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT n.name, regexp_replace(
    pg_get_indexdef(i.indexrelid), '^CREATE( UNIQUE)? INDEX \S+ ON \S+ ', format('CREATE\1 INDEX CONCURRENTLY %I ON rag.embeddings_next ', n.name))
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
  CROSS JOIN LATERAL (SELECT rag.embeddings_part(c.relname, 'next') AS name) AS n
  WHERE i.indrelid = 'rag.embeddings'::regclass
    AND NOT EXISTS (
      SELECT FROM pg_index AS e JOIN pg_class AS made ON made.oid = e.indexrelid
      WHERE e.indrelid = to_regclass('rag.embeddings_next') AND made.relname = n.name AND e.indisvalid)
  ORDER BY i.indexrelid
$$;

COMMENT ON FUNCTION rag.next_indexes() IS 'The indexes that rag.embeddings has and rag.embeddings_next has not, or has not whole, with the statement that makes each without blocking.';
