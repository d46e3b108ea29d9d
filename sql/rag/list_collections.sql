-- requires: 008_ingestion_pipeline
-- It runs with the caller's rights: which collections are seen is the policy of rag.collections.
CREATE OR REPLACE FUNCTION rag.list_collections()
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(rag.collection_document(c) ORDER BY c.name), '[]')
  FROM rag.collections AS c
  WHERE c.tenant_id = core.require_tenant()
$$;

COMMENT ON FUNCTION rag.list_collections() IS 'The collections that the current user may read, by name: [rag.collection_document].';
GRANT EXECUTE ON FUNCTION rag.list_collections() TO app;
