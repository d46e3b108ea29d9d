-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.refuse_paused(p_needed budget.balances[])
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_paused record;
BEGIN
  SELECT l.scope, l.period INTO v_paused
  FROM unnest(p_needed) AS n
  JOIN budget.limits AS l
    ON l.tenant_id = n.tenant_id AND l.scope = n.scope AND l.holder_id = n.holder_id AND l.period = n.period AND l.paused_at IS NOT NULL
  LIMIT 1;
  IF FOUND THEN
    PERFORM ops.raise_problem('budget_paused', format('The budget of the %s for each %s is paused: an administrator must let it go on.',
                                                    CASE v_paused.scope WHEN 'api_key' THEN 'API key' ELSE v_paused.scope END, v_paused.period),
                              jsonb_build_object('scope', v_paused.scope, 'period', v_paused.period));
  END IF;
END
$$;

COMMENT ON FUNCTION budget.refuse_paused(budget.balances[]) IS 'Raises budget_paused when an administrator has paused one of the limits. Internal.';
