-- requires: 000_core
CREATE OR REPLACE FUNCTION core.own_region()
RETURNS text
LANGUAGE sql STABLE
AS $$
  SELECT coalesce(ops.setting('region'), 'local')
$$;

COMMENT ON FUNCTION core.own_region() IS 'The region of this deployment: REGION. Internal.';
