-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.raise_exceeded(p_scope text, p_holder_id uuid, p_period text, p_starts_on date, p_tokens bigint)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_status jsonb;
BEGIN
  SELECT budget.balance_document(b) INTO STRICT v_status
  FROM budget.balances AS b
  WHERE b.tenant_id = core.require_tenant() AND b.scope = p_scope AND b.holder_id = p_holder_id
    AND b.period = p_period AND b.starts_on = p_starts_on;
  PERFORM ops.raise_problem(
    'budget_exceeded',
    format('The token budget of the %s for this %s is used up: %s tokens are needed and %s are left.',
           CASE p_scope WHEN 'api_key' THEN 'API key' ELSE p_scope END, p_period, p_tokens, v_status ->> 'remaining'),
    v_status || jsonb_build_object('scope', p_scope, 'period', p_period, 'requested', p_tokens));
END
$$;

COMMENT ON FUNCTION budget.raise_exceeded(text, uuid, text, date, bigint) IS 'Raises budget_exceeded for a balance that does not hold so many tokens. Internal.';
