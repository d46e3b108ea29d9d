-- requires: 016_regions
CREATE OR REPLACE FUNCTION core.list_regions()
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM core.require_operation('regions.read');
  RETURN jsonb_build_object(
    'own', core.own_region(),
    'regions', (SELECT coalesce(jsonb_agg(core.region_document(r) ORDER BY r.name), '[]') FROM core.regions AS r));
END
$$;

COMMENT ON FUNCTION core.list_regions() IS 'The directory: {own, regions: [core.region_document]}. For platform_admin.';
GRANT EXECUTE ON FUNCTION core.list_regions() TO app;
