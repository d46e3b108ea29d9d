-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION core.rotate_key(p_key_id uuid, p_secret_sha256 bytea, p_overlap interval DEFAULT '0')
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_key core.api_keys;
BEGIN
  PERFORM core.require_operation('keys.rotate');
  v_key := core.manageable_key(p_key_id);
  IF NOT core.may_act_by(v_key.user_id) THEN
    PERFORM ops.raise_problem('forbidden', 'Another''s key can be revoked, not rotated, unless it is that of a service account which may do no more than you.');
  ELSIF core.key_refusal(v_key) IS NOT NULL THEN
    PERFORM ops.raise_problem('conflict', format('The key is %s.', core.key_refusal(v_key)), jsonb_build_object('key_id', p_key_id));
  END IF;
  PERFORM core.forbid_wider_key(v_key.scopes);
  UPDATE core.api_keys AS k
  SET secret_sha256 = p_secret_sha256, rotated_at = now(),
      previous_sha256 = k.secret_sha256, previous_until = now() + p_overlap
  WHERE k.tenant_id = v_tenant AND k.id = p_key_id
  RETURNING * INTO v_key;
  PERFORM compliance.append(v_tenant, 'key.rotated', p_key_id::text, jsonb_build_object('previous_until', v_key.previous_until));
  RETURN core.key_document(v_key);
END
$$;

COMMENT ON FUNCTION core.rotate_key(uuid, bytea, interval) IS
  'Gives a key another secret; the former one is good for the overlap, and one before that no more. Raises not_found, forbidden, conflict.';
GRANT EXECUTE ON FUNCTION core.rotate_key(uuid, bytea, interval) TO app;
