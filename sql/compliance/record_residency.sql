-- requires: 016_regions
-- The platform's own chain, whoever's the tenant is: its own log is at home, and an API key of another region cannot be checked
-- here, so that this may be what somebody merely claims. The entry names the tenant by its id and nobody else.
CREATE OR REPLACE FUNCTION compliance.record_residency(p_tenant_id uuid, p_operation text, p_data jsonb)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_platform constant uuid := '00000000-0000-0000-0000-000000000000';
  v_home constant jsonb := core.residency(p_tenant_id);
BEGIN
  IF v_home ->> 'decision' IN ('redirect', 'refuse') THEN
    PERFORM compliance.append(
      c_platform, 'residency.decided', left(p_operation, 100),
      p_data || jsonb_build_object('tenant_id', p_tenant_id, 'decision', v_home -> 'decision', 'region', v_home -> 'region'), 'unknown');
  END IF;
  RETURN v_home;
END
$$;

COMMENT ON FUNCTION compliance.record_residency(uuid, text, jsonb) IS
  'core.residency, with an entry in the audit log, in the same transaction, when the tenant''s request for an operation is redirected or refused.';
GRANT EXECUTE ON FUNCTION compliance.record_residency(uuid, text, jsonb) TO app;
