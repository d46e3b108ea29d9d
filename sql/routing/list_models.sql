-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.list_models()
RETURNS TABLE (
  name text, tier text, enabled boolean, context_window integer, input_price numeric, output_price numeric, regions text[], tools boolean
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT m.name, m.tier, m.enabled, m.context_window, m.input_price, m.output_price, m.regions, m.tools
  FROM routing.models AS m
  ORDER BY array_position(ARRAY['light', 'standard', 'heavy'], m.tier), m.name
$$;

COMMENT ON FUNCTION routing.list_models() IS 'Every model by tier, lightest first; disabled ones answer no more.';
GRANT EXECUTE ON FUNCTION routing.list_models() TO app, dba_readonly;
