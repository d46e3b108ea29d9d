-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION core.forbid_wider_key(p_scopes text[], p_new boolean DEFAULT false)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_own core.api_keys;
BEGIN
  SELECT * INTO v_own
  FROM core.api_keys AS k
  WHERE k.tenant_id = core.require_tenant() AND k.id = core.current_api_key_id();
  IF v_own.scopes IS NOT NULL AND (p_scopes IS NULL OR EXISTS (
    SELECT FROM unnest(p_scopes) AS s (scope) WHERE NOT core.scopes_cover(v_own.scopes, s.scope))
  ) THEN
    PERFORM ops.raise_problem('forbidden', 'A key cannot make or renew a key that may do more than itself.', jsonb_build_object('scopes', v_own.scopes));
  ELSIF p_new AND (v_own.expires_at IS NOT NULL OR v_own.rate_limit_per_minute IS NOT NULL OR EXISTS (
    SELECT FROM budget.limits AS l WHERE l.tenant_id = v_own.tenant_id AND l.scope = 'api_key' AND l.holder_id = v_own.id)
  ) THEN
    PERFORM ops.raise_problem('forbidden', 'A key with an end, a rate or a budget of its own makes no other key: that would have none of it.');
  END IF;
END
$$;

COMMENT ON FUNCTION core.forbid_wider_key(text[], boolean) IS
  'Raises forbidden when the statement acts by a key whose scopes do not hold the given ones, or for a new key, by one with limits of its own. Internal.';
