-- requires: 008_ingestion_pipeline
-- The column is not compressed, so that PostgreSQL reads no more than the slice.
CREATE OR REPLACE FUNCTION rag.slice_original(p_document_id uuid, p_version integer, p_start integer, p_length integer)
RETURNS bytea
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT substring(c.original FROM p_start + 1 FOR p_length)
  FROM rag.contents AS c
  WHERE c.tenant_id = core.require_tenant() AND c.document_id = p_document_id AND c.version = p_version
$$;

COMMENT ON FUNCTION rag.slice_original(uuid, integer, integer, integer) IS 'Some bytes of a document''s version as they came, from p_start (0: the first); NULL when it was replaced or deleted.';
GRANT EXECUTE ON FUNCTION rag.slice_original(uuid, integer, integer, integer) TO app;
