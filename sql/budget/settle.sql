-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.settle(p_turn_id uuid, p_tokens bigint)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_held budget.reservations;
  v_charge bigint := p_tokens;
  v_room bigint;
  v_balance record;
BEGIN
  SELECT * INTO v_held
  FROM budget.reservations AS r
  WHERE r.tenant_id = v_tenant AND r.turn_id = p_turn_id
  FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'The turn holds no reservation.', jsonb_build_object('turn_id', p_turn_id));
  END IF;
  IF v_held.closed_at IS NOT NULL THEN
    RETURN v_held.settled;
  END IF;

  -- Beyond what was reserved, only what still fits can be charged; the rest is recorded as overrun.
  -- The rows are locked one after the other in the order of budget.reserve.
  FOR v_balance IN
    SELECT h.scope, h.holder_id, p.period, p.starts_on
    FROM (VALUES (1, 'tenant', v_tenant), (2, 'user', v_held.user_id), (3, 'api_key', v_held.api_key_id)) AS h (position, scope, holder_id)
    CROSS JOIN (VALUES ('day', v_held.day), ('month', v_held.month)) AS p (period, starts_on)
    ORDER BY h.position, p.period
  LOOP
    SELECT b.tokens - b.settled - b.reserved + v_held.tokens INTO v_room
    FROM budget.balances AS b
    WHERE b.tenant_id = v_tenant AND b.scope = v_balance.scope AND b.holder_id = v_balance.holder_id
      AND b.period = v_balance.period AND b.starts_on = v_balance.starts_on
    FOR UPDATE;
    -- least ignores NULL: a user or key without a limit has no balance.
    v_charge := least(v_charge, v_room);
  END LOOP;

  UPDATE budget.balances AS b
  SET reserved = b.reserved - v_held.tokens, settled = b.settled + v_charge
  WHERE b.tenant_id = v_tenant
    AND (b.scope, b.holder_id) IN (('tenant', v_tenant), ('user', v_held.user_id), ('api_key', v_held.api_key_id))
    AND (b.period, b.starts_on) IN (('day', v_held.day), ('month', v_held.month));
  UPDATE budget.reservations AS r
  SET settled = v_charge, closed_at = now()
  WHERE r.tenant_id = v_tenant AND r.turn_id = p_turn_id;
  INSERT INTO budget.ledger (tenant_id, turn_id, user_id, api_key_id, entry, tokens, day, month)
  SELECT v_tenant, p_turn_id, v_held.user_id, v_held.api_key_id, e.entry, e.tokens, v_held.day, v_held.month
  FROM (VALUES ('release', v_held.tokens), ('settle', v_charge), ('overrun', p_tokens - v_charge)) AS e (entry, tokens)
  WHERE e.tokens > 0;
  RETURN v_charge;
END
$$;

COMMENT ON FUNCTION budget.settle(uuid, bigint) IS
  'Ends a turn''s reservation and charges what was used, in tokens; 0 releases it. A second call changes nothing. Returns what was charged. Internal.';
