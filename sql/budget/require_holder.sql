-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.require_holder(p_scope text, p_holder_id uuid)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  IF p_scope = 'tenant' AND NOT core.has_role('platform_admin') THEN
    PERFORM ops.raise_problem('forbidden', 'A tenant''s own budget is set by a platform_admin.');
  ELSIF NOT (CASE p_scope
    WHEN 'tenant' THEN p_holder_id = v_tenant
    WHEN 'user' THEN EXISTS (SELECT FROM core.users AS u WHERE u.tenant_id = v_tenant AND u.id = p_holder_id)
    WHEN 'api_key' THEN EXISTS (SELECT FROM core.api_keys AS k WHERE k.tenant_id = v_tenant AND k.id = p_holder_id)
    ELSE false
  END) THEN
    PERFORM ops.raise_problem('not_found', format('There is no such %s.', replace(p_scope, '_', ' ')), jsonb_build_object('holder_id', p_holder_id));
  END IF;
END
$$;

COMMENT ON FUNCTION budget.require_holder(text, uuid) IS 'Raises not_found unless the current tenant has such a user or key or is it, and forbidden where only a platform_admin may. Internal.';
