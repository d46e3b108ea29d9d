-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION core.key_document(p_key core.api_keys)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'id', p_key.id, 'name', p_key.name, 'user_id', p_key.user_id, 'scopes', p_key.scopes,
    'status', coalesce(core.key_refusal(p_key), 'active'),
    'rate_limit_per_minute', p_key.rate_limit_per_minute,
    'token_budget_daily', (SELECT l.tokens FROM budget.limits AS l WHERE l.tenant_id = p_key.tenant_id AND l.scope = 'api_key' AND l.holder_id = p_key.id AND l.period = 'day'),
    'token_budget_monthly', (SELECT l.tokens FROM budget.limits AS l WHERE l.tenant_id = p_key.tenant_id AND l.scope = 'api_key' AND l.holder_id = p_key.id AND l.period = 'month'),
    'created_at', p_key.created_at, 'expires_at', p_key.expires_at, 'rotated_at', p_key.rotated_at,
    'previous_until', CASE WHEN p_key.previous_until > now() THEN p_key.previous_until END,
    'last_used_at', p_key.last_used_at, 'revoked_at', p_key.revoked_at)
$$;

COMMENT ON FUNCTION core.key_document(core.api_keys) IS 'What is told of a key: all but its secret. Internal.';
