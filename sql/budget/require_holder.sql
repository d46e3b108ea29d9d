-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.require_holder(p_scope text, p_holder_id uuid)
RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  IF p_scope = 'tenant' AND NOT core.has_role('platform_admin') THEN
    PERFORM ops.raise_problem('forbidden', 'A tenant''s own budget is set by a platform_admin.');
  ELSIF NOT core.is_operator() AND EXISTS (
    SELECT FROM budget.limits AS l WHERE l.tenant_id = v_tenant AND l.scope = 'api_key' AND l.holder_id = core.current_api_key_id()
  ) THEN
    PERFORM ops.raise_problem('forbidden', 'A key with a budget of its own changes no budget.');
  ELSIF NOT (CASE p_scope
    WHEN 'tenant' THEN EXISTS (SELECT FROM core.tenants AS t WHERE t.id = p_holder_id)
    WHEN 'user' THEN EXISTS (SELECT FROM core.users AS u WHERE u.tenant_id = v_tenant AND u.id = p_holder_id)
    WHEN 'api_key' THEN EXISTS (SELECT FROM core.api_keys AS k WHERE k.tenant_id = v_tenant AND k.id = p_holder_id)
    ELSE false
  END) THEN
    PERFORM ops.raise_problem('not_found', format('There is no such %s.', replace(p_scope, '_', ' ')), jsonb_build_object('holder_id', p_holder_id));
  END IF;
  RETURN CASE p_scope WHEN 'tenant' THEN p_holder_id ELSE v_tenant END;
END
$$;

COMMENT ON FUNCTION budget.require_holder(text, uuid) IS
  'The tenant of a holder whose budget the caller may change: a user or key of the current tenant, or for a platform_admin any tenant. Raises not_found, forbidden. Internal.';
