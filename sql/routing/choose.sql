-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION routing.choose(
  p_question text, p_requested text DEFAULT NULL, p_prompt_tokens bigint DEFAULT 0, p_max_tokens bigint DEFAULT 0,
  p_tools integer DEFAULT 0, p_passages integer DEFAULT 0, p_history_chars integer DEFAULT 0
)
RETURNS jsonb
LANGUAGE plpgsql STABLE
AS $$
DECLARE
  v_features jsonb := routing.circumstances(p_question, p_requested, p_tools, p_passages, p_history_chars);
  v_rule routing.rules;
  v_reason text;
  v_tier text;
  v_model text;
  v_considered jsonb;
  v_chosen record;
BEGIN
  -- 1. What is wanted: a model, or a tier.
  IF p_requested IS NOT NULL AND p_requested NOT IN ('auto', 'light', 'standard', 'heavy') THEN
    v_model := p_requested;
    v_reason := 'the request names the model';
  ELSIF p_requested IN ('light', 'standard', 'heavy') THEN
    v_tier := p_requested;
    v_reason := 'the request names the tier';
  ELSIF NOT ops.setting('model_routing_enabled')::boolean THEN
    v_model := ops.setting('litellm_default_model');
    v_reason := 'routing is switched off: LITELLM_DEFAULT_MODEL answers';
  ELSE
    -- Reading the question costs more than all the rest, so that it is done only for the rules.
    v_features := routing.features(p_question, p_requested, p_tools, p_passages, p_history_chars);
    v_rule := routing.matching_rule(p_question, v_features);
    v_tier := v_rule.tier;
    v_reason := 'the first rule whose conditions hold';
  END IF;

  -- 2. Who can. A model that is named, and that nothing stands against, is not weighed against others.
  IF v_model IS NOT NULL THEN
    SELECT m.name AS model, m.tier, c.micros INTO v_chosen
    FROM routing.models AS m
    LEFT JOIN routing.health AS h ON h.model = m.name
    CROSS JOIN LATERAL (SELECT budget.cost(p_prompt_tokens, p_max_tokens, m.input_price, m.output_price)) AS c (micros)
    WHERE m.name = v_model
      AND routing.objection(m, h, v_features, p_prompt_tokens + p_max_tokens, c.micros, budget.cost_room()) IS NULL;
    IF FOUND THEN
      RETURN jsonb_build_object(
        'model', v_chosen.model, 'tier', v_chosen.tier, 'rule', NULL, 'reason', v_reason, 'requested', coalesce(p_requested, 'auto'),
        'fallback', NULL, 'features', v_features - 'tenant',
        'considered', jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('model', v_chosen.model, 'tier', v_chosen.tier, 'cost_micros', v_chosen.micros))));
    END IF;
  END IF;
  -- Of several the best candidate against which nothing stands. Where money alone stands against all, the cheapest, so that the
  -- budget itself refuses the turn and says when it may be asked again.
  SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('model', c.model, 'tier', c.tier, 'cost_micros', c.cost_micros, 'rejected', c.rejected, 'why', c.why))
                   ORDER BY c.place)
  INTO v_considered
  FROM routing.candidates(v_tier, v_model, v_rule.model, v_features, p_prompt_tokens, p_max_tokens) AS c;
  SELECT c.value ->> 'model' AS model, c.value ->> 'tier' AS tier, c.value ->> 'rejected' AS rejected, c.ordinality AS place
  INTO v_chosen
  FROM jsonb_array_elements(v_considered) WITH ORDINALITY AS c
  WHERE c.value ->> 'rejected' IS NULL OR c.value ->> 'rejected' = 'budget'
  ORDER BY c.value ->> 'rejected' IS NOT NULL, CASE WHEN c.value ->> 'rejected' IS NOT NULL THEN (c.value ->> 'cost_micros')::bigint END, c.ordinality
  LIMIT 1;
  IF NOT FOUND THEN
    PERFORM routing.raise_no_model(coalesce(v_model, v_tier), v_considered);
  END IF;
  RETURN jsonb_build_object(
    'model', v_chosen.model, 'tier', v_chosen.tier, 'rule', v_rule.name, 'reason', v_reason, 'requested', coalesce(p_requested, 'auto'),
    'fallback', CASE
      WHEN v_chosen.rejected IS NOT NULL THEN 'no model fits the budget'
      WHEN v_tier IS NOT NULL AND v_chosen.tier <> v_tier THEN format('from %s down to %s: %s', v_tier, v_chosen.tier,
        (SELECT string_agg(DISTINCT c.value ->> 'rejected', ', ') FROM jsonb_array_elements(v_considered) WITH ORDINALITY AS c
         WHERE c.ordinality < v_chosen.place))
      WHEN v_chosen.place > 1 THEN format('within %s: %s', v_chosen.tier,
        (SELECT string_agg(DISTINCT c.value ->> 'rejected', ', ') FROM jsonb_array_elements(v_considered) WITH ORDINALITY AS c
         WHERE c.ordinality < v_chosen.place))
    END,
    'features', v_features - 'tenant', 'considered', v_considered);
END
$$;

COMMENT ON FUNCTION routing.choose(text, text, bigint, bigint, integer, integer, integer) IS
  'Which model answers, and why: {model, tier, rule, reason, requested, fallback, features, considered: [{model, tier, cost_micros, rejected, why}]}. Raises no_model, no_healthy_model.';
GRANT EXECUTE ON FUNCTION routing.choose(text, text, bigint, bigint, integer, integer, integer) TO app, dba_readonly;
