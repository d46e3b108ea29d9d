-- requires: 000_core
CREATE OR REPLACE FUNCTION compliance.verify_audit(p_platform boolean DEFAULT false)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_chain uuid := compliance.audit_chain(p_platform);
  v_breaks jsonb;
BEGIN
  PERFORM core.require_operation('audit.verify');
  SELECT coalesce(jsonb_agg(jsonb_build_object('seq', b.seq, 'reason', b.reason)), '[]') INTO v_breaks
  FROM (SELECT * FROM compliance.chain_breaks(v_chain) LIMIT 100) AS b;
  RETURN jsonb_build_object(
    'intact', v_breaks = '[]', 'breaks', v_breaks,
    'entries', coalesce((SELECT h.seq FROM compliance.audit_heads AS h WHERE h.tenant_id = v_chain), 0),
    'head', (SELECT encode(h.hash, 'hex') FROM compliance.audit_heads AS h WHERE h.tenant_id = v_chain));
END
$$;

COMMENT ON FUNCTION compliance.verify_audit(boolean) IS
  'Checks the chain of the current tenant, or of the platform: {intact, breaks, entries, head}. Keep head elsewhere: a later chain must still hold it. Raises forbidden.';
GRANT EXECUTE ON FUNCTION compliance.verify_audit(boolean) TO app;
