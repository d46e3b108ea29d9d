-- requires: 000_core
-- Whoever has a key's secret acts as its user. A key for another person would let its maker act as that person; one for a service
-- account with the role that reaches beyond the tenant would give that role away.
CREATE OR REPLACE FUNCTION core.may_act_by(p_user_id uuid)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT p_user_id IS NOT DISTINCT FROM core.current_user_id() OR core.is_operator() OR (
    core.has_role('tenant_admin')
    AND EXISTS (SELECT FROM core.users AS u WHERE u.tenant_id = core.require_tenant() AND u.id = p_user_id AND u.kind = 'service')
    AND (core.has_role('platform_admin') OR 'platform_admin' <> ALL (core.effective_roles(core.require_tenant(), p_user_id))))
$$;

COMMENT ON FUNCTION core.may_act_by(uuid) IS 'Whether the caller may hold the secret of a user''s key: one''s own, or as tenant_admin that of a service account which may do no more. Internal.';
