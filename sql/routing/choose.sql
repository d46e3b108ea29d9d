-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.choose(p_question text, p_requested text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_reason text;
  v_rule text;
  v_tier text;
  v_model text;
BEGIN
  IF p_requested IS NOT NULL AND p_requested NOT IN ('auto', 'light', 'standard', 'heavy') THEN
    SELECT m.name, m.tier INTO v_model, v_tier FROM routing.models AS m WHERE m.name = p_requested AND m.enabled;
    IF NOT FOUND THEN
      PERFORM ops.raise_problem('no_model', format('There is no enabled model named %s.', p_requested),
                                jsonb_build_object('model', p_requested));
    END IF;
    v_reason := 'the request names the model';
  ELSIF p_requested IN ('light', 'standard', 'heavy') THEN
    v_tier := p_requested;
    v_reason := 'the request names the tier';
  ELSIF NOT ops.setting('model_routing_enabled')::boolean THEN
    v_model := ops.setting('litellm_default_model');
    SELECT m.tier INTO v_tier FROM routing.models AS m WHERE m.name = v_model;
    v_reason := 'routing is switched off: LITELLM_DEFAULT_MODEL answers';
  ELSE
    SELECT r.tier, r.name INTO v_tier, v_rule
    FROM routing.rules AS r
    WHERE r.enabled
      AND length(p_question) >= coalesce(r.min_chars, 0)
      AND (r.max_chars IS NULL OR length(p_question) <= r.max_chars)
      AND (r.pattern IS NULL OR p_question ~* r.pattern)
    ORDER BY r.position
    LIMIT 1;
    v_reason := 'the first rule whose conditions hold';
  END IF;

  IF v_model IS NULL THEN
    -- The model that the variables name for the tier, or else any other of the tier.
    SELECT m.name INTO v_model
    FROM routing.models AS m
    WHERE m.tier = v_tier AND m.enabled
    ORDER BY m.name = ops.setting('model_' || v_tier) DESC, m.name
    LIMIT 1;
  END IF;
  IF v_model IS NULL THEN
    PERFORM ops.raise_problem('no_model', format('No model is enabled for tier %s.', coalesce(v_tier, 'none')));
  END IF;
  RETURN jsonb_build_object('model', v_model, 'tier', v_tier, 'rule', v_rule, 'reason', v_reason,
                            'requested', coalesce(p_requested, 'auto'));
END
$$;

COMMENT ON FUNCTION routing.choose(text, text) IS
  'Which model answers a question, and why: {model, tier, rule, reason, requested}. p_requested is auto, a tier, or a model''s name.';
GRANT EXECUTE ON FUNCTION routing.choose(text, text) TO app, dba_readonly;
