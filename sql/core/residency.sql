-- requires: 016_regions
-- The whole decision. A directory that names another region counts for more than a row of core.tenants: a tenant that has moved
-- away is not served where some of its data may still lie. docs/regions.md has the same as a table.
CREATE OR REPLACE FUNCTION core.residency(p_tenant_id uuid)
RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_strip_nulls(jsonb_build_object(
    'decision', CASE
      WHEN r.name IS NOT NULL THEN coalesce(h.policy, r.policy)
      WHEN t.id IS NOT NULL THEN 'serve'
      ELSE 'unknown'
    END,
    'region', CASE WHEN r.name IS NOT NULL THEN r.name WHEN t.id IS NOT NULL THEN core.own_region() END,
    'url', r.url, 'function_urls', r.function_urls))
  FROM (VALUES (p_tenant_id)) AS asked (id)
  LEFT JOIN core.tenants AS t ON t.id = asked.id
  LEFT JOIN core.tenant_homes AS h ON h.tenant_id = asked.id
  LEFT JOIN core.regions AS r ON r.name = h.region AND r.name <> core.own_region()
$$;

COMMENT ON FUNCTION core.residency(uuid) IS
  'What becomes of a tenant''s requests here: {decision, region, url, function_urls}; serve (it is at home), redirect, refuse, or unknown. The last two are the home region''s.';
GRANT EXECUTE ON FUNCTION core.residency(uuid) TO app, dba_readonly;
