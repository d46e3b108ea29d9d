-- requires: 009_api_keys
-- Secrets are compared in constant time: what is compared are hashes of both with a number of this call alone, so how long the
-- comparison takes says nothing of either (double HMAC verification). An unknown key costs the same as a known one.
CREATE OR REPLACE FUNCTION core.authenticate_key(p_tenant_id uuid, p_key_id uuid, p_secret_sha256 bytea)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_blind constant bytea := uuid_send(gen_random_uuid());
  c_nothing constant bytea := uuid_send(gen_random_uuid());  -- what no digest is, in place of a secret that is not there
  v_given constant bytea := sha256(v_blind || p_secret_sha256);
  v_key core.api_keys;
  v_subject text;
  v_disabled timestamptz;
  v_known boolean;
  v_present boolean;
  v_previous boolean;
  v_refusal text;
BEGIN
  SELECT * INTO v_key FROM core.api_keys AS k WHERE k.tenant_id = p_tenant_id AND k.id = p_key_id;
  v_known := FOUND;
  v_present := sha256(v_blind || coalesce(v_key.secret_sha256, c_nothing)) IS NOT DISTINCT FROM v_given;
  v_previous := sha256(v_blind || coalesce(v_key.previous_sha256, c_nothing)) IS NOT DISTINCT FROM v_given;
  SELECT u.subject, u.disabled_at INTO v_subject, v_disabled FROM core.users AS u WHERE u.tenant_id = p_tenant_id AND u.id = v_key.user_id;

  v_refusal := CASE
    WHEN NOT v_known THEN 'unknown key'
    WHEN NOT (v_present OR v_previous) THEN 'wrong secret'
    WHEN core.key_refusal(v_key) IS NOT NULL THEN core.key_refusal(v_key)
    WHEN NOT v_present AND v_key.previous_until <= now() THEN 'rotated'
    WHEN v_disabled IS NOT NULL THEN 'user disabled'
  END;
  IF v_refusal IS NOT NULL THEN
    RETURN jsonb_build_object('refused', v_refusal, 'authentic', v_present OR v_previous);
  END IF;
  UPDATE core.api_keys AS k SET last_used_at = now()
  WHERE k.tenant_id = p_tenant_id AND k.id = p_key_id AND (k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute');
  RETURN jsonb_build_object('subject', v_subject, 'rate_limit_per_minute', v_key.rate_limit_per_minute);
END
$$;

COMMENT ON FUNCTION core.authenticate_key(uuid, uuid, bytea) IS
  'Whom a key stands for: {subject, rate_limit_per_minute}; or {refused, authentic}: why not, and whether the secret was right. Last use is noted to the minute.';
GRANT EXECUTE ON FUNCTION core.authenticate_key(uuid, uuid, bytea) TO app;
