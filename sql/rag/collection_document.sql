-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.collection_document(p_row rag.collections)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'name', p_row.name, 'description', p_row.description, 'visibility', p_row.visibility,
    'created_by', p_row.created_by, 'created_at', p_row.created_at,
    'access', CASE
      WHEN core.has_role('tenant_admin') OR p_row.created_by = core.current_user_id() THEN 'manage'
      WHEN p_row.id = ANY (rag.writable_collections()) THEN 'write'
      ELSE 'read'
    END,
    'documents', rag.count_documents(p_row.id))
$$;

COMMENT ON FUNCTION rag.collection_document(rag.collections) IS
  'What is told of a collection: with access, what the current user''s rights to it are (read, write, manage) as far as the roles allow, and how many documents are how far.';
GRANT EXECUTE ON FUNCTION rag.collection_document(rag.collections) TO app;
