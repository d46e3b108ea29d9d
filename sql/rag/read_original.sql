-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.read_original(p_document_id uuid, p_version integer)
RETURNS bytea
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT c.original
  FROM rag.contents AS c
  WHERE c.tenant_id = core.require_tenant() AND c.document_id = p_document_id AND c.version = p_version
$$;

COMMENT ON FUNCTION rag.read_original(uuid, integer) IS 'The bytes of a document''s version as they came; NULL when it was replaced or deleted.';
GRANT EXECUTE ON FUNCTION rag.read_original(uuid, integer) TO app;
