-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION chat.earlier_turn(p_idempotency_key text, p_request_sha256 bytea)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.require_user();
  v_earlier record;
BEGIN
  IF p_idempotency_key IS NULL THEN
    RETURN NULL;
  END IF;
  -- Of two at the same instant the lock makes the second one wait.
  PERFORM pg_advisory_xact_lock(hashtextextended(format('%s/%s/%s', v_tenant, v_user, p_idempotency_key), 0));
  SELECT t.id, t.request_sha256 INTO v_earlier
  FROM chat.turns AS t
  WHERE t.tenant_id = v_tenant AND t.user_id = v_user AND t.idempotency_key = p_idempotency_key;
  IF NOT FOUND THEN
    RETURN NULL;
  ELSIF v_earlier.request_sha256 <> p_request_sha256 THEN
    PERFORM ops.raise_problem('idempotency_conflict', 'This Idempotency-Key was used for a different request.',
                              jsonb_build_object('turn_id', v_earlier.id));
  END IF;
  RETURN chat.turn_accepted(v_earlier.id) || '{"replayed": true}';
END
$$;

COMMENT ON FUNCTION chat.earlier_turn(text, bytea) IS
  'The current user''s turn that this Idempotency-Key began, as chat.turn_accepted with replayed: true; NULL: none. Holds the key until the end of the transaction; raises '
  'idempotency_conflict. Internal.';
