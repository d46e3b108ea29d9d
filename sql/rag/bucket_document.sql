-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.bucket_document(p_bucket rag.buckets)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'tenant_id', p_bucket.tenant_id, 'bucket', p_bucket.bucket, 'prefix', p_bucket.prefix, 'collection', p_bucket.collection,
    'assigned', p_bucket.assigned, 'created_at', p_bucket.created_at)
$$;

COMMENT ON FUNCTION rag.bucket_document(rag.buckets) IS 'What is told of a rule of rag.buckets. Internal.';
