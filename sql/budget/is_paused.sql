-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.is_paused()
RETURNS boolean
LANGUAGE sql STABLE
AS $$
  SELECT EXISTS (
    SELECT FROM budget.limits AS l
    WHERE l.tenant_id = core.current_tenant()
      AND (l.scope, l.holder_id) IN (('tenant', core.current_tenant()), ('user', core.current_user_id()), ('api_key', core.current_api_key_id()))
      AND l.paused_at IS NOT NULL)
$$;

COMMENT ON FUNCTION budget.is_paused() IS 'Whether an administrator has paused a limit of the current tenant, user or key, one of this period or not. Internal.';
