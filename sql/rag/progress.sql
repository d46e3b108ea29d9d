-- requires: 008_ingestion_pipeline
-- It runs with the caller's rights: what the caller may not read any more is not told any more.
CREATE OR REPLACE FUNCTION rag.progress(p_document_ids uuid[], p_collections text[])
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'documents', (
      SELECT coalesce(jsonb_object_agg(d.id, rag.document_state(d)), '{}')
      FROM rag.documents AS d
      WHERE d.tenant_id = core.require_tenant() AND d.id = ANY (p_document_ids)),
    'collections', (
      SELECT coalesce(jsonb_object_agg(n.name, rag.collection_progress(c.id)), '{}')
      FROM unnest(p_collections) AS n (name)
      LEFT JOIN rag.collections AS c ON c.tenant_id = core.require_tenant() AND c.name = n.name
      WHERE c.id IS NOT NULL OR n.name = ''))
$$;

COMMENT ON FUNCTION rag.progress(uuid[], text[]) IS
  'How far documents and collections are, by id and name; the empty name is all collections: {documents: rag.document_state, collections: rag.collection_progress}. '
  'What is missing is gone, or the caller''s no more.';
GRANT EXECUTE ON FUNCTION rag.progress(uuid[], text[]) TO app;
