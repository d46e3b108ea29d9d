-- requires: 012_budget_metrics
-- Whoever changes a limit, by budget.set_limit or by hand, changes the running period with it. Below what is used and held
-- already it comes down as that ends, and until then admits nothing. A limit that is taken away takes its balance along, because nothing would keep it; a later
-- one begins from the ledger. What stays as it was, because a limit was paused or resumed, keeps what it was topped up by. The
-- tenant's lock comes first, as in every change of a balance.
CREATE OR REPLACE FUNCTION budget.apply_limit()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_none constant bigint := 9223372036854775807;
  v_limit budget.limits := CASE tg_op WHEN 'DELETE' THEN old ELSE new END;
  v_day date;
  v_month date;
  v_tokens bigint;
  v_cost bigint;
BEGIN
  IF tg_op = 'UPDATE' AND (new.tenant_id, new.scope, new.holder_id, new.period) <> (old.tenant_id, old.scope, old.holder_id, old.period) THEN
    PERFORM ops.raise_problem('invalid_request', 'A limit stays with its holder and period: delete it, and insert another.');
  END IF;
  SELECT p.day, p.month INTO v_day, v_month FROM budget.periods(v_limit.tenant_id) AS p;
  -- With the tenant itself its limits go, and nothing runs any more.
  IF v_day IS NULL THEN
    RETURN NULL;
  END IF;
  PERFORM budget.lock_running(v_limit.tenant_id);
  IF tg_op = 'DELETE' AND v_limit.scope <> 'tenant' THEN
    DELETE FROM budget.balances AS b
    WHERE b.tenant_id = v_limit.tenant_id AND b.scope = v_limit.scope AND b.holder_id = v_limit.holder_id AND b.period = v_limit.period;
  END IF;
  IF tg_op <> 'DELETE' THEN
    v_tokens := new.tokens;
    v_cost := new.cost_micros;
  END IF;
  IF v_limit.scope = 'tenant' AND v_tokens IS NULL THEN
    v_tokens := ops.setting(CASE v_limit.period WHEN 'day' THEN 'token_budget_daily' ELSE 'token_budget_monthly' END)::bigint;
  END IF;
  UPDATE budget.balances AS b
  SET target_tokens = n.tokens, tokens = budget.limit_now(n.tokens, b.settled + b.reserved),
      target_cost = n.cost, cost_micros = budget.limit_now(n.cost, b.cost_settled + b.cost_reserved),
      -- Only a raised limit can be reached, and told, again.
      reached = CASE WHEN coalesce(n.tokens, c_none) > coalesce(k.target_tokens, c_none) OR coalesce(n.cost, c_none) > coalesce(k.target_cost, c_none)
        THEN least(b.reached, greatest(budget.share_reached(b.settled, n.tokens), budget.share_reached(b.cost_settled, n.cost)))
        ELSE b.reached END
  FROM budget.balances AS k
  CROSS JOIN LATERAL (SELECT
    CASE WHEN new.tokens IS NOT DISTINCT FROM old.tokens THEN k.target_tokens ELSE v_tokens END AS tokens,
    CASE WHEN new.cost_micros IS NOT DISTINCT FROM old.cost_micros THEN k.target_cost ELSE v_cost END AS cost) AS n
  WHERE b.tenant_id = v_limit.tenant_id AND b.scope = v_limit.scope AND b.holder_id = v_limit.holder_id AND b.period = v_limit.period
    AND b.starts_on = CASE v_limit.period WHEN 'day' THEN v_day ELSE v_month END
    AND (k.tenant_id, k.scope, k.holder_id, k.period, k.starts_on) = (b.tenant_id, b.scope, b.holder_id, b.period, b.starts_on);
  -- Whoever it was, also by hand. That of a new key is part of what is logged of the key.
  IF budget.limit_document(old) IS DISTINCT FROM budget.limit_document(new) AND current_setting('app.operation', true) IS DISTINCT FROM 'keys.create' THEN
    PERFORM compliance.append(v_limit.tenant_id, 'budget.changed', v_limit.holder_id::text, jsonb_build_object(
      'scope', v_limit.scope, 'period', v_limit.period, 'before', budget.limit_document(old), 'after', budget.limit_document(new)));
  END IF;
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION budget.apply_limit() IS 'A limit was set, changed or taken away: the running period follows.';

CREATE OR REPLACE TRIGGER apply_limit
AFTER INSERT OR UPDATE OR DELETE ON budget.limits
FOR EACH ROW EXECUTE FUNCTION budget.apply_limit();
