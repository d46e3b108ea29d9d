-- requires: 008_ingestion_pipeline
-- The platform's credentials read every bucket: so the platform's administrator says which keys are whose, and a tenant's
-- administrator divides among collections what was given.
CREATE OR REPLACE FUNCTION rag.put_bucket(p_bucket text, p_prefix text, p_collection text, p_tenant_id uuid DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_assigns boolean := core.has_role('platform_admin');
  v_bucket rag.buckets;
BEGIN
  PERFORM core.require_operation('buckets.update');
  v_tenant := core.acting_tenant(coalesce(p_tenant_id, v_tenant));
  PERFORM pg_advisory_xact_lock(hashtextextended('bucket/' || p_bucket, 0));
  IF NOT v_assigns AND NOT EXISTS (
    SELECT FROM rag.buckets AS b
    WHERE b.tenant_id = v_tenant AND b.bucket = p_bucket AND b.assigned AND starts_with(p_prefix, b.prefix)) THEN
    PERFORM ops.raise_problem('forbidden', 'These keys are not assigned to the tenant: the platform''s administrator does that.',
                              jsonb_build_object('bucket', p_bucket, 'prefix', p_prefix));
  ELSIF EXISTS (
    SELECT FROM rag.buckets AS b
    WHERE b.tenant_id <> v_tenant AND b.bucket = p_bucket AND (starts_with(p_prefix, b.prefix) OR starts_with(b.prefix, p_prefix))) THEN
    PERFORM ops.raise_problem('conflict', 'Some of these keys are assigned to another tenant.', jsonb_build_object('bucket', p_bucket, 'prefix', p_prefix));
  END IF;
  INSERT INTO rag.buckets AS b (tenant_id, bucket, prefix, collection, assigned)
  VALUES (v_tenant, p_bucket, p_prefix, p_collection, v_assigns)
  ON CONFLICT (bucket, prefix) DO UPDATE SET collection = excluded.collection, assigned = b.assigned OR excluded.assigned
  RETURNING * INTO v_bucket;
  PERFORM compliance.append(v_tenant, 'bucket.assigned', v_bucket.id::text,
                            jsonb_build_object('bucket', p_bucket, 'prefix', p_prefix, 'collection', p_collection));
  RETURN rag.bucket_document(v_bucket);
END
$$;

COMMENT ON FUNCTION rag.put_bucket(text, text, text, uuid) IS
  'Says that the objects of a bucket whose keys begin so are documents of a collection: of any tenant as platform_admin, or for a part of what is assigned to the own one. '
  'Raises forbidden, conflict, not_found.';
GRANT EXECUTE ON FUNCTION rag.put_bucket(text, text, text, uuid) TO app;
