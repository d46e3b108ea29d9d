-- requires: 016_regions
-- The door of the database. It goes out in one pipeline, and so in one transaction, with the call that it admits: when it
-- raises, the call does not run, whatever the Python before it has or has not checked. What it sets lasts for that transaction.
CREATE OR REPLACE FUNCTION core.enter(
  p_tenant_id uuid, p_subject text, p_operation text,
  p_roles text[] DEFAULT '{}', p_groups text[] DEFAULT '{}', p_name text DEFAULT NULL, p_email text DEFAULT NULL,
  p_api_key_id uuid DEFAULT NULL, p_issued_at timestamptz DEFAULT NULL, p_api_key_sha256 bytea DEFAULT NULL
)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_operation record;
  v_suspended timestamptz;
  v_home text;
  v_user core.users;
  v_key core.api_keys;
  v_roles text[];
  v_token_roles text[] := CASE WHEN p_api_key_id IS NULL THEN core.known_roles(p_roles) END;
BEGIN
  SELECT t.suspended_at, h.region INTO v_suspended, v_home
  FROM core.tenants AS t
  LEFT JOIN core.tenant_homes AS h ON h.tenant_id = t.id
  WHERE t.id = p_tenant_id;
  IF NOT FOUND OR v_home IS NOT NULL THEN
    PERFORM core.require_home(p_tenant_id);
  END IF;
  IF v_suspended IS NOT NULL THEN
    PERFORM ops.raise_problem('tenant_suspended', 'The tenant is suspended.');
  END IF;

  -- 1. Who it is. A token provisions its user and brings the present roles and groups; a key acts for a user that exists.
  SELECT * INTO v_user FROM core.users AS u WHERE u.tenant_id = p_tenant_id AND u.subject = p_subject;
  IF p_api_key_id IS NOT NULL THEN
    SELECT * INTO v_key FROM core.api_keys AS k WHERE k.tenant_id = p_tenant_id AND k.id = p_api_key_id AND k.user_id = v_user.id;
    -- The secret too: whoever was told that it is good may ask for a moment without asking for it again.
    IF NOT FOUND OR core.key_refusal(v_key) IS NOT NULL
      OR NOT (p_api_key_sha256 IS NULL OR p_api_key_sha256 = v_key.secret_sha256
              OR coalesce(p_api_key_sha256 = v_key.previous_sha256 AND v_key.previous_until > now(), false)) THEN
      PERFORM ops.raise_problem('unauthenticated', 'The API key is not valid.');
    END IF;
  ELSIF v_user.kind = 'service' THEN
    PERFORM ops.raise_problem('unauthenticated', 'A service account acts by API keys only.');
  ELSIF v_user.id IS NULL THEN
    INSERT INTO core.users (tenant_id, subject, name, email, roles, groups, token_issued_at)
    VALUES (p_tenant_id, p_subject, p_name, p_email, v_token_roles, p_groups, p_issued_at)
    ON CONFLICT (tenant_id, subject) DO NOTHING;
    SELECT * INTO STRICT v_user FROM core.users AS u WHERE u.tenant_id = p_tenant_id AND u.subject = p_subject;
  ELSIF p_issued_at < v_user.token_issued_at THEN
    NULL;  -- a later token has said what holds now
  ELSIF (v_user.roles, v_user.groups, v_user.name, v_user.email) IS DISTINCT FROM
        (v_token_roles, p_groups, coalesce(p_name, v_user.name), coalesce(p_email, v_user.email))
        OR p_issued_at > coalesce(v_user.token_issued_at, '-infinity') OR v_user.seen_at < now() - interval '1 hour' THEN
    UPDATE core.users AS u
    SET token_issued_at = coalesce(p_issued_at, u.token_issued_at), roles = v_token_roles, groups = p_groups,
        name = coalesce(p_name, u.name), email = coalesce(p_email, u.email), seen_at = now()
    WHERE u.tenant_id = p_tenant_id AND u.id = v_user.id;
  END IF;
  IF v_user.disabled_at IS NOT NULL THEN
    PERFORM ops.raise_problem('user_disabled', 'The user is disabled.');
  END IF;

  -- 2. Whether it may.
  SELECT o.scope, o.roles, o.audited INTO v_operation FROM core.operations() AS o WHERE o.name = p_operation;
  v_roles := core.effective_roles(p_tenant_id, v_user.id);
  IF v_operation.roles IS NULL OR NOT v_operation.roles && (v_roles || 'anyone'::text) THEN
    PERFORM ops.raise_problem('forbidden', format('None of your roles may do this: %s.', p_operation),
                              jsonb_build_object('operation', p_operation, 'roles', v_roles));
  ELSIF NOT core.scopes_cover(v_key.scopes, v_operation.scope) THEN
    PERFORM ops.raise_problem('forbidden', format('The API key has not the scope %s, which %s needs.', v_operation.scope, p_operation),
                              jsonb_build_object('operation', p_operation, 'scope', v_operation.scope));
  END IF;

  PERFORM set_config('app.tenant_id', p_tenant_id::text, true),
    set_config('app.user_id', v_user.id::text, true),
    set_config('app.api_key_id', coalesce(p_api_key_id::text, ''), true),
    set_config('app.actor', CASE WHEN p_api_key_id IS NULL THEN 'user:' || v_user.id ELSE 'key:' || p_api_key_id END, true),
    set_config('app.operation', p_operation, true),
    set_config('app.roles', array_to_string(v_roles, ','), true);
  IF v_operation.audited THEN
    PERFORM compliance.append(p_tenant_id, p_operation, p_operation, '{}');
  END IF;
END
$$;

COMMENT ON FUNCTION core.enter(uuid, text, text, text[], text[], text, text, uuid, timestamptz, bytea) IS
  'Admits a request to an operation and sets whom its transaction acts for; a first token provisions its user. Raises as core.require_home; tenant_suspended, unauthenticated, forbidden and so on.';
GRANT EXECUTE ON FUNCTION core.enter(uuid, text, text, text[], text[], text, text, uuid, timestamptz, bytea) TO app;
