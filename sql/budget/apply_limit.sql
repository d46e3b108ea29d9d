-- requires: 012_budget_metrics
-- Whoever changes a limit, by budget.set_limit or by hand, changes the running period with it, but never below what is used and
-- held: from then on it admits nothing. A limit that is taken away takes its balance along, because nothing would keep it; a later
-- one begins from the ledger. The tenant's lock comes first, as in every change of a balance.
CREATE OR REPLACE FUNCTION budget.apply_limit()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_limit budget.limits := CASE tg_op WHEN 'DELETE' THEN old ELSE new END;
  v_day date;
  v_month date;
  v_tokens bigint;
  v_cost bigint;
BEGIN
  SELECT p.day, p.month INTO v_day, v_month FROM budget.periods(v_limit.tenant_id) AS p;
  PERFORM budget.lock_tenant(v_limit.tenant_id, v_day, v_month);
  IF tg_op = 'DELETE' AND v_limit.scope <> 'tenant' THEN
    DELETE FROM budget.balances AS b
    WHERE b.tenant_id = v_limit.tenant_id AND b.scope = v_limit.scope AND b.holder_id = v_limit.holder_id AND b.period = v_limit.period;
    RETURN NULL;
  END IF;
  IF tg_op <> 'DELETE' THEN
    v_tokens := new.tokens;
    v_cost := new.cost_micros;
  END IF;
  IF v_limit.scope = 'tenant' AND v_tokens IS NULL THEN
    v_tokens := ops.setting(CASE v_limit.period WHEN 'day' THEN 'token_budget_daily' ELSE 'token_budget_monthly' END)::bigint;
  END IF;
  UPDATE budget.balances AS b
  SET tokens = CASE WHEN v_tokens IS NOT NULL THEN greatest(v_tokens, b.settled + b.reserved) END,
      cost_micros = CASE WHEN v_cost IS NOT NULL THEN greatest(v_cost, b.cost_settled + b.cost_reserved) END,
      reached = least(b.reached, greatest(budget.share_reached(b.settled, v_tokens), budget.share_reached(b.cost_settled, v_cost)))
  WHERE b.tenant_id = v_limit.tenant_id AND b.scope = v_limit.scope AND b.holder_id = v_limit.holder_id AND b.period = v_limit.period
    AND b.starts_on = CASE v_limit.period WHEN 'day' THEN v_day ELSE v_month END;
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION budget.apply_limit() IS 'A limit was set, changed or taken away: the running period follows.';

CREATE OR REPLACE TRIGGER apply_limit
AFTER INSERT OR UPDATE OR DELETE ON budget.limits
FOR EACH ROW EXECUTE FUNCTION budget.apply_limit();
