-- requires: 016_regions
CREATE OR REPLACE FUNCTION core.drop_region(p_name text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_platform constant uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
  PERFORM core.require_operation('regions.update');
  IF EXISTS (SELECT FROM core.tenant_homes AS h WHERE h.region = p_name) THEN
    PERFORM ops.raise_problem('conflict', 'There are tenants whose home it is.', jsonb_build_object('region', p_name));
  END IF;
  DELETE FROM core.regions AS r WHERE r.name = p_name;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such region.', jsonb_build_object('region', p_name));
  END IF;
  PERFORM compliance.append(c_platform, 'region.removed', p_name, '{}');
END
$$;

COMMENT ON FUNCTION core.drop_region(text) IS 'Takes a region without tenants out of the directory. For platform_admin. Raises not_found, conflict.';
GRANT EXECUTE ON FUNCTION core.drop_region(text) TO app;
