-- requires: 009_api_keys
CREATE OR REPLACE FUNCTION core.manageable_key(p_key_id uuid)
RETURNS core.api_keys
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_key core.api_keys;
BEGIN
  SELECT * INTO v_key
  FROM core.api_keys AS k
  WHERE k.tenant_id = core.require_tenant() AND k.id = p_key_id
    AND (k.user_id = core.current_user_id() OR core.has_role('tenant_admin'))
  FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such API key.', jsonb_build_object('key_id', p_key_id));
  END IF;
  RETURN v_key;
END
$$;

COMMENT ON FUNCTION core.manageable_key(uuid) IS 'Locks a key of the current user, or for a tenant_admin any of the tenant; raises not_found. Internal.';
