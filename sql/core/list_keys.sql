-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION core.list_keys(p_user_id uuid DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_all boolean := core.has_role('tenant_admin') OR core.has_role('auditor');
BEGIN
  PERFORM core.require_operation('keys.read');
  RETURN (
    SELECT coalesce(jsonb_agg(core.key_document(k) ORDER BY k.created_at DESC, k.id), '[]')
    FROM core.api_keys AS k
    WHERE k.tenant_id = v_tenant
      AND (v_all OR k.user_id = core.current_user_id())
      AND (p_user_id IS NULL OR k.user_id = p_user_id));
END
$$;

COMMENT ON FUNCTION core.list_keys(uuid) IS 'The current user''s keys, or for a tenant_admin or auditor those of the tenant or of one user, newest first: [core.key_document].';
GRANT EXECUTE ON FUNCTION core.list_keys(uuid) TO app;
