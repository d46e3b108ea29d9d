-- requires: 016_regions
CREATE OR REPLACE FUNCTION core.set_region(
  p_name text, p_url text, p_function_urls jsonb DEFAULT '{}', p_policy text DEFAULT 'redirect'
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_platform constant uuid := '00000000-0000-0000-0000-000000000000';
  v_region core.regions;
BEGIN
  PERFORM core.require_operation('regions.update');
  IF core.own_region() = 'local' THEN
    -- Functions of a deployment without a name take every tenant that they meet to be at home.
    PERFORM ops.raise_problem('conflict', 'This deployment has no name yet: set REGION and migrate.');
  END IF;
  INSERT INTO core.regions AS r (name, url, function_urls, policy)
  VALUES (p_name, rtrim(p_url, '/'), p_function_urls, p_policy)
  ON CONFLICT (name) DO UPDATE
  SET url = excluded.url, function_urls = excluded.function_urls, policy = excluded.policy, changed_at = now()
  RETURNING * INTO v_region;
  PERFORM compliance.append(c_platform, 'region.changed', p_name, core.region_document(v_region) - ARRAY['name', 'changed_at']);
  RETURN core.region_document(v_region);
END
$$;

COMMENT ON FUNCTION core.set_region(text, text, jsonb, text) IS
  'Adds a region to the directory, or changes one: core.region_document. The own one may be in it. For platform_admin. Raises conflict in a deployment whose REGION is local.';
GRANT EXECUTE ON FUNCTION core.set_region(text, text, jsonb, text) TO app;
