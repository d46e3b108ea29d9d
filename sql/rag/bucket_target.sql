-- requires: 016_regions
-- Across tenants: a bucket's notification names none, and this is how its tenant is found.
CREATE OR REPLACE FUNCTION rag.bucket_target(p_bucket text, p_object_key text)
RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object('tenant_id', b.tenant_id, 'collection', b.collection, 'name', substr(p_object_key, length(b.prefix) + 1))
  FROM rag.buckets AS b
  JOIN core.tenants AS t ON t.id = b.tenant_id
  WHERE b.bucket = p_bucket AND starts_with(p_object_key, b.prefix) AND t.suspended_at IS NULL
    AND core.residency(t.id) ->> 'decision' = 'serve'
  ORDER BY length(b.prefix) DESC
  LIMIT 1
$$;

COMMENT ON FUNCTION rag.bucket_target(text, text) IS 'Which document of which tenant an object of a bucket is: {tenant_id, collection, name}, by the longest prefix; NULL when nobody wants it.';
GRANT EXECUTE ON FUNCTION rag.bucket_target(text, text) TO app;
