-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION routing.explain(
  p_question text, p_requested text DEFAULT NULL, p_max_tokens integer DEFAULT 1024,
  p_tools integer DEFAULT 0, p_passages integer DEFAULT 0, p_history_chars integer DEFAULT 0
)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_prompt_tokens bigint := budget.estimate_tokens(p_question);
  v_choice jsonb := routing.choose(p_question, p_requested, v_prompt_tokens, p_max_tokens, p_tools, p_passages, p_history_chars);
  v_cost bigint;
  v_full budget.balances;
  v_needed budget.balances[] := ARRAY(SELECT a FROM budget.applicable(v_tenant, core.require_user(), core.current_api_key_id()) AS a);
BEGIN
  SELECT budget.cost(v_prompt_tokens, p_max_tokens, m.input_price, m.output_price) INTO v_cost
  FROM routing.models AS m WHERE m.name = v_choice ->> 'model';
  PERFORM budget.refuse_paused(v_needed);
  SELECT p.* INTO v_full FROM budget.present(v_needed) AS p WHERE NOT budget.fits(p, v_prompt_tokens + p_max_tokens, v_cost) LIMIT 1;
  RETURN v_choice || jsonb_build_object(
    'estimate', jsonb_build_object('prompt_tokens', v_prompt_tokens, 'max_tokens', p_max_tokens, 'tokens', v_prompt_tokens + p_max_tokens, 'cost_micros', v_cost),
    'budget', CASE WHEN v_full.tenant_id IS NULL THEN '{"admitted": true}'
                   ELSE budget.balance_document(v_full) || jsonb_build_object('admitted', false, 'scope', v_full.scope, 'period', v_full.period) END);
END
$$;

COMMENT ON FUNCTION routing.explain(text, text, integer, integer, integer, integer) IS
  'What would become of a question: routing.choose, an estimate of its own tokens, and whether the budget admits it. Nothing is stored. Raises no_model, no_healthy_model, budget_paused.';
GRANT EXECUTE ON FUNCTION routing.explain(text, text, integer, integer, integer, integer) TO app;
