-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.limit_document(p_limit budget.limits)
RETURNS jsonb
LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE WHEN p_limit.tenant_id IS NOT NULL
    THEN jsonb_build_object('tokens', p_limit.tokens, 'cost_micros', p_limit.cost_micros, 'paused', p_limit.paused_at IS NOT NULL) END
$$;

COMMENT ON FUNCTION budget.limit_document(budget.limits) IS 'What is logged of a limit: {tokens, cost_micros, paused}; NULL for none. Internal.';
