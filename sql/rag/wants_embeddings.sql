-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.wants_embeddings(p_tenant uuid, p_document_id uuid, p_version integer)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (
    SELECT FROM rag.embedding_queue AS q
    WHERE q.tenant_id = p_tenant AND q.document_id = p_document_id AND q.status = 'waiting' AND q.version = p_version)
$$;

COMMENT ON FUNCTION rag.wants_embeddings(uuid, uuid, integer) IS 'Whether chunks of a document''s version wait for a vector. Internal.';
