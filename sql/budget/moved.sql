-- requires: 012_budget_metrics
-- One query for each scope, so that each uses its own index of the ledger.
CREATE OR REPLACE FUNCTION budget.moved(
  p_tenant_id uuid, p_scope text, p_holder_id uuid, p_period text, p_starts_on date, p_without_turns uuid[] DEFAULT '{}',
  OUT settled bigint, OUT reserved bigint, OUT cost_settled bigint, OUT cost_reserved bigint
)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  c_month constant date := date_trunc('month', p_starts_on)::date;
  v_sums constant text := $sums$
    SELECT coalesce(sum(l.tokens) FILTER (WHERE l.entry = 'settle'), 0),
      coalesce(sum(CASE l.entry WHEN 'reserve' THEN l.tokens WHEN 'release' THEN -l.tokens END), 0),
      coalesce(sum(l.cost_micros) FILTER (WHERE l.entry = 'settle'), 0),
      coalesce(sum(CASE l.entry WHEN 'reserve' THEN l.cost_micros WHEN 'release' THEN -l.cost_micros END), 0)
    FROM budget.ledger AS l
    WHERE l.tenant_id = $1 AND l.month = $2 AND ($3 = 'month' OR l.day = $4) AND l.turn_id <> ALL ($5) $sums$;
BEGIN
  -- A tenant's balance is made by its first movement: where there is none, nothing has moved.
  IF p_scope = 'tenant' THEN
    SELECT 0, 0, 0, 0 INTO settled, reserved, cost_settled, cost_reserved;
    RETURN;
  END IF;
  EXECUTE v_sums || CASE p_scope WHEN 'user' THEN 'AND l.user_id = $6' ELSE 'AND l.api_key_id = $6' END
  INTO settled, reserved, cost_settled, cost_reserved
  USING p_tenant_id, c_month, p_period, p_starts_on, p_without_turns, p_holder_id;
END
$$;

COMMENT ON FUNCTION budget.moved(uuid, text, uuid, text, date, uuid[]) IS
  'What the ledger says that a balance must be: the sums of its entries, but for some turns. Internal.';
