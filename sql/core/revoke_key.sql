-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION core.revoke_key(p_key_id uuid)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_key core.api_keys;
BEGIN
  PERFORM core.require_operation('keys.revoke');
  v_key := core.manageable_key(p_key_id);
  IF v_key.revoked_at IS NULL THEN
    UPDATE core.api_keys AS k SET revoked_at = now()
    WHERE k.tenant_id = v_tenant AND k.id = p_key_id
    RETURNING * INTO v_key;
    PERFORM compliance.append(v_tenant, 'key.revoked', p_key_id::text, jsonb_build_object('user_id', v_key.user_id));
  END IF;
  RETURN core.key_document(v_key);
END
$$;

COMMENT ON FUNCTION core.revoke_key(uuid) IS 'Ends a key at once and for good; a second call changes nothing. Raises not_found.';
GRANT EXECUTE ON FUNCTION core.revoke_key(uuid) TO app;
