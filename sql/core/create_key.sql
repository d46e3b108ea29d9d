-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION core.create_key(
  p_key_id uuid, p_secret_sha256 bytea, p_name text, p_user_id uuid DEFAULT NULL, p_scopes text[] DEFAULT NULL,
  p_expires_at timestamptz DEFAULT NULL, p_rate_limit_per_minute integer DEFAULT NULL,
  p_token_budget_daily bigint DEFAULT NULL, p_token_budget_monthly bigint DEFAULT NULL
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_owner uuid := coalesce(p_user_id, core.require_user());
  v_key core.api_keys;
  v_unknown text[] := ARRAY(SELECT unnest(p_scopes) EXCEPT SELECT o.scope FROM core.operations() AS o);
BEGIN
  PERFORM core.require_operation('keys.create');
  IF NOT core.may_act_by(v_owner) THEN
    PERFORM ops.raise_problem('forbidden', 'A key is for oneself or, made by a tenant_admin, for a service account.');
  END IF;
  IF cardinality(v_unknown) > 0 OR cardinality(p_scopes) = 0 THEN
    PERFORM ops.raise_problem('invalid_request', format('scopes: must be some of %s.',
      (SELECT string_agg(DISTINCT o.scope, ', ') FROM core.operations() AS o)), jsonb_build_object('unknown', v_unknown));
  ELSIF p_expires_at <= now() THEN
    PERFORM ops.raise_problem('invalid_request', 'expires_at: must be in the future.');
  ELSIF p_rate_limit_per_minute IS NOT NULL AND NOT core.has_role('tenant_admin') THEN
    -- A key with a limit of its own does not count in its user's window.
    PERFORM ops.raise_problem('forbidden', 'Only a tenant_admin gives a key a rate limit of its own.');
  END IF;
  PERFORM core.forbid_wider_key(p_scopes, p_new => true);

  INSERT INTO core.api_keys (tenant_id, id, user_id, name, secret_sha256, scopes, expires_at, rate_limit_per_minute)
  VALUES (v_tenant, p_key_id, v_owner, p_name, p_secret_sha256, p_scopes, p_expires_at, p_rate_limit_per_minute)
  RETURNING * INTO v_key;
  INSERT INTO budget.limits (tenant_id, scope, holder_id, period, tokens)
  SELECT v_tenant, 'api_key', p_key_id, l.period, l.tokens
  FROM (VALUES ('day', p_token_budget_daily), ('month', p_token_budget_monthly)) AS l (period, tokens)
  WHERE l.tokens IS NOT NULL;
  PERFORM compliance.append(v_tenant, 'key.created', p_key_id::text, jsonb_strip_nulls(jsonb_build_object(
    'user_id', v_owner, 'scopes', p_scopes, 'expires_at', p_expires_at, 'rate_limit_per_minute', p_rate_limit_per_minute,
    'token_budget_daily', p_token_budget_daily, 'token_budget_monthly', p_token_budget_monthly)));
  RETURN core.key_document(v_key);
END
$$;

COMMENT ON FUNCTION core.create_key(uuid, bytea, text, uuid, text[], timestamptz, integer, bigint, bigint) IS
  'Makes an API key from the hash of its secret, for the current user or a service account; returns core.key_document. Raises forbidden, invalid_request.';
GRANT EXECUTE ON FUNCTION core.create_key(uuid, bytea, text, uuid, text[], timestamptz, integer, bigint, bigint) TO app;
