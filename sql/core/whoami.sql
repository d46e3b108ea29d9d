-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION core.whoami()
RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'tenant', core.tenant_document(t),
    'user', core.user_document(u),
    'key', (SELECT core.key_document(k) FROM core.api_keys AS k WHERE k.tenant_id = t.id AND k.id = own.key_id),
    'operations', (
      SELECT coalesce(jsonb_agg(o.name ORDER BY o.name), '[]')
      FROM core.operations() AS o
      WHERE o.roles && (core.effective_roles(t.id, u.id) || 'anyone'::text)
        AND core.scopes_cover((SELECT k.scopes FROM core.api_keys AS k WHERE k.tenant_id = t.id AND k.id = own.key_id), o.scope)))
  FROM core.tenants AS t
  JOIN core.users AS u ON u.tenant_id = t.id AND u.id = core.require_user()
  CROSS JOIN (SELECT core.current_api_key_id()) AS own (key_id)
  WHERE t.id = core.require_tenant()
$$;

COMMENT ON FUNCTION core.whoami() IS 'Whom the request acts for, and what it may do: {tenant, user, key, operations}; key is null for a token.';
GRANT EXECUTE ON FUNCTION core.whoami() TO app;
