-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.set_limit(
  p_scope text, p_holder_id uuid, p_period text, p_tokens bigint DEFAULT NULL, p_cost_micros bigint DEFAULT NULL,
  p_paused boolean DEFAULT false, p_keep boolean DEFAULT false
)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  PERFORM core.require_operation('budgets.update');
  v_tenant := budget.require_holder(p_scope, p_holder_id);
  IF p_keep THEN
    SELECT l.tokens, l.cost_micros INTO p_tokens, p_cost_micros
    FROM budget.limits AS l
    WHERE l.tenant_id = v_tenant AND l.scope = p_scope AND l.holder_id = p_holder_id AND l.period = p_period
    FOR UPDATE;
  END IF;
  -- The trigger apply_limit lets the running period follow, and audits.
  IF p_tokens IS NULL AND p_cost_micros IS NULL AND NOT p_paused THEN
    DELETE FROM budget.limits AS l
    WHERE l.tenant_id = v_tenant AND l.scope = p_scope AND l.holder_id = p_holder_id AND l.period = p_period;
  ELSE
    INSERT INTO budget.limits AS l (tenant_id, scope, holder_id, period, tokens, cost_micros, paused_at)
    VALUES (v_tenant, p_scope, p_holder_id, p_period, p_tokens, p_cost_micros, CASE WHEN p_paused THEN now() END)
    ON CONFLICT (tenant_id, scope, holder_id, period) DO UPDATE
    SET tokens = excluded.tokens, cost_micros = excluded.cost_micros, updated_at = now(),
        paused_at = CASE WHEN p_paused THEN coalesce(l.paused_at, now()) END;
  END IF;
  RETURN jsonb_build_object('scope', p_scope, 'holder_id', p_holder_id, 'period', p_period,
                            'tokens', p_tokens, 'cost_micros', p_cost_micros, 'paused', p_paused);
END
$$;

COMMENT ON FUNCTION budget.set_limit(text, uuid, text, bigint, bigint, boolean, boolean) IS
  'Sets the limits of a tenant, user or key for a day or month, in tokens and in millionths; all NULL: none of its own. With p_keep the amounts stay what they are, and only the pause is '
  'set or ended. The running period follows. Raises not_found, forbidden, invalid_request.';
GRANT EXECUTE ON FUNCTION budget.set_limit(text, uuid, text, bigint, bigint, boolean, boolean) TO app;
