-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.drop_bucket(p_bucket text, p_prefix text, p_tenant_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_bucket rag.buckets;
BEGIN
  PERFORM core.require_operation('buckets.update');
  v_tenant := core.acting_tenant(coalesce(p_tenant_id, v_tenant));
  PERFORM pg_advisory_xact_lock(hashtextextended('bucket/' || p_bucket, 0));
  SELECT * INTO v_bucket FROM rag.buckets AS b WHERE b.tenant_id = v_tenant AND b.bucket = p_bucket AND b.prefix = p_prefix;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such rule.', jsonb_build_object('bucket', p_bucket, 'prefix', p_prefix));
  ELSIF v_bucket.assigned AND NOT core.has_role('platform_admin') THEN
    PERFORM ops.raise_problem('forbidden', 'What the platform''s administrator has assigned only the same takes away.',
                              jsonb_build_object('bucket', p_bucket, 'prefix', p_prefix));
  END IF;
  DELETE FROM rag.buckets AS b WHERE b.tenant_id = v_tenant AND b.id = v_bucket.id;
  -- A division of what is not assigned any more goes with it.
  DELETE FROM rag.buckets AS b
  WHERE b.tenant_id = v_tenant AND b.bucket = p_bucket AND NOT b.assigned AND NOT EXISTS (
    SELECT FROM rag.buckets AS a
    WHERE a.tenant_id = v_tenant AND a.bucket = p_bucket AND a.assigned AND starts_with(b.prefix, a.prefix));
  PERFORM compliance.append(v_tenant, 'bucket.dropped', v_bucket.id::text, jsonb_build_object('bucket', p_bucket, 'prefix', p_prefix));
END
$$;

COMMENT ON FUNCTION rag.drop_bucket(text, text, uuid) IS
  'Ends a rule of rag.put_bucket: what is in the bucket concerns the tenant no more, and the documents that it has brought stay. Raises not_found, forbidden.';
GRANT EXECUTE ON FUNCTION rag.drop_bucket(text, text, uuid) TO app;
