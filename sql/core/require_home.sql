-- requires: 016_regions
CREATE OR REPLACE FUNCTION core.require_home(p_tenant_id uuid)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_home constant jsonb := core.residency(p_tenant_id);
BEGIN
  CASE v_home ->> 'decision'
    WHEN 'redirect' THEN
      PERFORM ops.raise_problem('tenant_elsewhere', 'The tenant''s home is another region.', v_home - ARRAY['decision', 'url', 'function_urls']);
    WHEN 'refuse' THEN
      PERFORM ops.raise_problem('residency_refused', 'The tenant''s home is another region, and is not served from here.',
                                v_home - ARRAY['decision', 'url', 'function_urls']);
    WHEN 'unknown' THEN
      PERFORM ops.raise_problem('tenant_unset', 'The request names a tenant that does not exist.');
    ELSE NULL;
  END CASE;
END
$$;

COMMENT ON FUNCTION core.require_home(uuid) IS
  'Raises tenant_elsewhere, residency_refused or tenant_unset for a tenant that is not at home here, as core.residency decides. Internal.';
