-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.list_budgets(p_tenant_id uuid DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_own constant uuid := core.require_tenant();
  v_tenant constant uuid := core.acting_tenant(p_tenant_id);
  v_user uuid := core.require_user();
  v_all boolean := core.has_role('tenant_admin') OR core.has_role('auditor');
  v_needed budget.balances[];
BEGIN
  PERFORM core.require_operation('budgets.read');
  -- Of another tenant a platform_admin sees the tenant's own, and nothing of its users.
  v_needed := ARRAY(SELECT a FROM budget.applicable(v_tenant, NULL, NULL) AS a) || ARRAY(
    SELECT a
    FROM (SELECT DISTINCT l.scope, l.holder_id FROM budget.limits AS l WHERE l.tenant_id = v_tenant AND v_tenant = v_own AND l.scope <> 'tenant') AS l
    CROSS JOIN LATERAL budget.applicable(
      v_tenant, CASE l.scope WHEN 'user' THEN l.holder_id END, CASE l.scope WHEN 'api_key' THEN l.holder_id END) AS a
    WHERE a.scope <> 'tenant' AND (v_all OR l.holder_id = v_user OR l.holder_id IN (
      SELECT k.id FROM core.api_keys AS k WHERE k.tenant_id = v_tenant AND k.user_id = v_user)));
  RETURN (
    SELECT coalesce(jsonb_agg(
      budget.balance_document(p) || jsonb_build_object(
        'scope', p.scope, 'holder_id', p.holder_id, 'period', p.period, 'starts_on', p.starts_on, 'reached', p.reached,
        'paused', EXISTS (
          SELECT FROM budget.limits AS l
          WHERE l.tenant_id = v_tenant AND l.scope = p.scope AND l.holder_id = p.holder_id AND l.period = p.period AND l.paused_at IS NOT NULL))
      ORDER BY p.scope = 'tenant' DESC, p.scope DESC, p.holder_id, p.period), '[]')
    FROM budget.present(v_needed) AS p);
END
$$;

COMMENT ON FUNCTION budget.list_budgets(uuid) IS
  'The running day and month of the tenant and of limits of users and keys: one''s own, or for tenant_admin and auditor all; for a platform_admin another tenant''s: [budget.balance_document ...].';
GRANT EXECUTE ON FUNCTION budget.list_budgets(uuid) TO app;
