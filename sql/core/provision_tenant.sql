-- requires: 000_core
CREATE OR REPLACE FUNCTION core.provision_tenant(p_slug text, p_name text)
RETURNS uuid
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO core.tenants AS t (slug, name, region)
  VALUES (p_slug, p_name, coalesce(ops.setting('region'), 'local'))
  ON CONFLICT (slug) DO UPDATE SET name = excluded.name
  RETURNING t.id
$$;

COMMENT ON FUNCTION core.provision_tenant(text, text) IS
  'The id of the tenant with this slug, created when absent. For operators: no function of the platform may call it.';
