-- requires: 016_regions
CREATE OR REPLACE FUNCTION core.region_document(p_region core.regions)
RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_object(
  'name', p_region.name, 'url', p_region.url, 'function_urls', p_region.function_urls, 'policy', p_region.policy,
  'own', p_region.name = core.own_region(), 'changed_at', p_region.changed_at);

COMMENT ON FUNCTION core.region_document(core.regions) IS 'What is told of a region; own: it is this one. Internal.';
