-- requires: 012_budget_metrics
-- The test and the booking are one UPDATE, so no interleaving can pass both; the constraint within_limit holds even if
-- this text is wrong. There is one lock order: the tenant before its user before the key, of each the day before the month.
-- The row locks last until the turn's transaction commits: callers reserve last.
CREATE OR REPLACE FUNCTION budget.reserve(p_turn_id uuid, p_tokens bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.require_user();
  v_key uuid := nullif(current_setting('app.api_key_id', true), '')::uuid;
  v_day date;
  v_month date;
  v_held record;
BEGIN
  SELECT (now() AT TIME ZONE t.time_zone)::date, date_trunc('month', now() AT TIME ZONE t.time_zone)::date
  INTO STRICT v_day, v_month
  FROM core.tenants AS t WHERE t.id = v_tenant;

  FOR v_held IN
    SELECT h.scope, h.holder_id, p.period, p.starts_on, coalesce(l.tokens, p.fallback) AS tokens
    FROM (VALUES (1, 'tenant', v_tenant), (2, 'user', v_user), (3, 'api_key', v_key)) AS h (position, scope, holder_id)
    CROSS JOIN (VALUES ('day', v_day, ops.setting('token_budget_daily')::bigint),
                       ('month', v_month, ops.setting('token_budget_monthly')::bigint)) AS p (period, starts_on, fallback)
    LEFT JOIN budget.limits AS l
      ON l.tenant_id = v_tenant AND l.scope = h.scope AND l.holder_id = h.holder_id AND l.period = p.period
    WHERE h.scope = 'tenant' OR l.tokens IS NOT NULL
    ORDER BY h.position, p.period
  LOOP
    PERFORM budget.open_balance(v_held.scope, v_held.holder_id, v_held.period, v_held.starts_on, v_held.tokens);
    UPDATE budget.balances AS b
    SET reserved = b.reserved + p_tokens
    WHERE b.tenant_id = v_tenant AND b.scope = v_held.scope AND b.holder_id = v_held.holder_id
      AND b.period = v_held.period AND b.starts_on = v_held.starts_on
      AND b.settled + b.reserved + p_tokens <= b.tokens;
    IF NOT FOUND THEN
      PERFORM budget.raise_exceeded(v_held.scope, v_held.holder_id, v_held.period, v_held.starts_on, p_tokens);
    END IF;
  END LOOP;

  INSERT INTO budget.reservations (tenant_id, turn_id, user_id, api_key_id, day, month, tokens)
  VALUES (v_tenant, p_turn_id, v_user, v_key, v_day, v_month, p_tokens);
  INSERT INTO budget.ledger (tenant_id, turn_id, user_id, api_key_id, entry, tokens, day, month)
  VALUES (v_tenant, p_turn_id, v_user, v_key, 'reserve', p_tokens, v_day, v_month);
END
$$;

COMMENT ON FUNCTION budget.reserve(uuid, bigint) IS
  'Holds tokens for a turn: of the current tenant''s day and month, and of its user''s and key''s where they have limits; raises budget_exceeded with scope, period and reset. Internal.';
