-- requires: 000_core
CREATE OR REPLACE FUNCTION compliance.read_audit(
  p_after bigint DEFAULT 0, p_limit integer DEFAULT 100, p_action text DEFAULT NULL, p_platform boolean DEFAULT false
)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_chain uuid := compliance.audit_chain(p_platform);
BEGIN
  PERFORM core.require_operation('audit.read');
  RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
      'seq', a.seq, 'at', a.at, 'actor', a.actor, 'action', a.action, 'object', a.object, 'data', a.data, 'hash', encode(a.hash, 'hex')
    ) ORDER BY a.seq), '[]')
    FROM (
      SELECT * FROM compliance.audit_log AS a
      WHERE a.tenant_id = v_chain AND a.seq > p_after AND (p_action IS NULL OR a.action = p_action)
      ORDER BY a.seq
      LIMIT p_limit
    ) AS a);
END
$$;

COMMENT ON FUNCTION compliance.read_audit(bigint, integer, text, boolean) IS
  'Entries after a number, oldest first, of one action or all: [{seq, at, actor, action, object, data, hash}]. Raises forbidden.';
GRANT EXECUTE ON FUNCTION compliance.read_audit(bigint, integer, text, boolean) TO app;
