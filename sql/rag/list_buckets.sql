-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.list_buckets(p_tenant_id uuid DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  PERFORM core.require_operation('buckets.read');
  v_tenant := core.acting_tenant(coalesce(p_tenant_id, v_tenant));
  RETURN (
    SELECT coalesce(jsonb_agg(rag.bucket_document(b) ORDER BY b.bucket, b.prefix), '[]')
    FROM rag.buckets AS b
    WHERE b.tenant_id = v_tenant);
END
$$;

COMMENT ON FUNCTION rag.list_buckets(uuid) IS 'Which keys of which buckets go into which collections: [rag.bucket_document]; of another tenant for a platform_admin. Raises forbidden, not_found.';
GRANT EXECUTE ON FUNCTION rag.list_buckets(uuid) TO app;
