-- requires: 009_api_keys
CREATE OR REPLACE FUNCTION core.forbid_wider_key(p_scopes text[])
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_own text[];
BEGIN
  SELECT k.scopes INTO v_own
  FROM core.api_keys AS k
  WHERE k.tenant_id = core.require_tenant() AND k.id = nullif(current_setting('app.api_key_id', true), '')::uuid;
  IF v_own IS NOT NULL AND (p_scopes IS NULL OR EXISTS (
    SELECT FROM unnest(p_scopes) AS s (scope) WHERE NOT core.scopes_cover(v_own, s.scope))
  ) THEN
    PERFORM ops.raise_problem('forbidden', 'A key cannot make or renew a key that may do more than itself.', jsonb_build_object('scopes', v_own));
  END IF;
END
$$;

COMMENT ON FUNCTION core.forbid_wider_key(text[]) IS 'Raises forbidden when the statement acts by a key whose scopes do not hold the given ones. Internal.';
