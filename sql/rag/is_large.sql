-- requires: 017_long_ingestion
CREATE OR REPLACE FUNCTION rag.is_large(p_bytes bigint)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(p_bytes >= ops.setting('large_document_bytes')::bigint, false)
$$;

COMMENT ON FUNCTION rag.is_large(bigint) IS
  'Whether a document of this size is indexed by a job of its own from the first attempt on: LARGE_DOCUMENT_BYTES or more. Internal.';
