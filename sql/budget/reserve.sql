-- requires: 012_budget_metrics
-- The test and the booking are one UPDATE, so no interleaving can pass both; the constraint within_limit holds even if
-- this text is wrong. Day before month is the one lock order. The row locks last until the turn's transaction commits:
-- callers reserve last.
CREATE OR REPLACE FUNCTION budget.reserve(p_turn_id uuid, p_tokens bigint)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_status jsonb := budget.status();
  v_day date;
  v_month date;
  v_period text;
BEGIN
  SELECT (now() AT TIME ZONE t.time_zone)::date, date_trunc('month', now() AT TIME ZONE t.time_zone)::date
  INTO STRICT v_day, v_month
  FROM core.tenants AS t WHERE t.id = v_tenant;

  FOREACH v_period IN ARRAY ARRAY['day', 'month'] LOOP
    INSERT INTO budget.balances (tenant_id, period, starts_on, tokens)
    VALUES (v_tenant, v_period, CASE v_period WHEN 'day' THEN v_day ELSE v_month END, (v_status #>> ARRAY[v_period, 'limit'])::bigint)
    ON CONFLICT (tenant_id, period, starts_on) DO NOTHING;

    UPDATE budget.balances AS b
    SET reserved = b.reserved + p_tokens
    WHERE b.tenant_id = v_tenant AND b.period = v_period
      AND b.starts_on = CASE v_period WHEN 'day' THEN v_day ELSE v_month END
      AND b.settled + b.reserved + p_tokens <= b.tokens;
    IF NOT FOUND THEN
      v_status := budget.status() -> v_period;
      PERFORM ops.raise_problem(
        'budget_exceeded',
        format('The tenant''s token budget of this %s is used up: %s tokens are needed and %s are left.',
               v_period, p_tokens, v_status ->> 'remaining'),
        v_status || jsonb_build_object('scope', 'tenant', 'period', v_period, 'requested', p_tokens));
    END IF;
  END LOOP;

  INSERT INTO budget.reservations (tenant_id, turn_id, day, month, tokens)
  VALUES (v_tenant, p_turn_id, v_day, v_month, p_tokens);
  INSERT INTO budget.ledger (tenant_id, turn_id, entry, tokens, day, month)
  VALUES (v_tenant, p_turn_id, 'reserve', p_tokens, v_day, v_month);
END
$$;

COMMENT ON FUNCTION budget.reserve(uuid, bigint) IS
  'Holds tokens of the current tenant''s day and month for a turn; raises budget_exceeded with the period and when it resets. Internal.';
