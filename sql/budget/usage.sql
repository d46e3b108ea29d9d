-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.usage(
  p_from date, p_until date, p_by text[] DEFAULT '{day}', p_user_id uuid DEFAULT NULL, p_api_key_id uuid DEFAULT NULL, p_model text DEFAULT NULL,
  p_tenant_id uuid DEFAULT NULL
)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_days constant integer := 400;
  v_own constant uuid := core.require_tenant();
  v_tenant constant uuid := core.acting_tenant(p_tenant_id);
  -- Who may not see all sees the own use.
  v_user uuid := CASE WHEN v_tenant <> v_own OR core.has_role('tenant_admin') OR core.has_role('auditor') THEN p_user_id ELSE core.require_user() END;
BEGIN
  PERFORM core.require_operation('usage.read');
  IF p_until < p_from OR p_until - p_from > c_days THEN
    PERFORM ops.raise_problem('invalid_request', format('until: must be from 0 to %s days after since.', c_days));
  END IF;
  IF v_tenant <> v_own AND p_by && '{user,api_key}' THEN
    PERFORM ops.raise_problem('forbidden', 'Another tenant''s use is told by day and model.');
  END IF;
  RETURN (
    SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
        'day', g.day, 'user_id', g.user_id, 'api_key_id', g.api_key_id, 'model', g.model))
        || jsonb_build_object('turns', g.turns, 'prompt_tokens', g.prompt_tokens, 'completion_tokens', g.completion_tokens,
                              'tokens', g.tokens, 'cost_micros', g.cost_micros)
      ORDER BY g.day, g.user_id, g.api_key_id, g.model), '[]')
    FROM (
      SELECT k.day, k.user_id, k.api_key_id, k.model, count(DISTINCT l.turn_id) FILTER (WHERE e.name IS NULL) AS turns,
        coalesce(sum(l.prompt_tokens), 0) AS prompt_tokens, coalesce(sum(l.completion_tokens), 0) AS completion_tokens,
        sum(l.tokens) AS tokens, sum(l.cost_micros) AS cost_micros
      FROM budget.ledger AS l
      -- An embedding is charged by itself, and is no turn.
      LEFT JOIN (SELECT DISTINCT m.name FROM rag.embedding_models AS m) AS e ON e.name = l.model
      CROSS JOIN LATERAL (SELECT
        CASE WHEN 'day' = ANY (p_by) THEN l.day END AS day,
        CASE WHEN 'user' = ANY (p_by) THEN l.user_id END AS user_id,
        CASE WHEN 'api_key' = ANY (p_by) THEN l.api_key_id END AS api_key_id,
        CASE WHEN 'model' = ANY (p_by) THEN l.model END AS model) AS k
      WHERE l.tenant_id = v_tenant AND l.entry = 'settle'
        AND l.month BETWEEN date_trunc('month', p_from)::date AND date_trunc('month', p_until)::date
        AND l.day BETWEEN p_from AND p_until
        AND (v_user IS NULL OR l.user_id = v_user)
        AND (p_api_key_id IS NULL OR l.api_key_id = p_api_key_id)
        AND (p_model IS NULL OR l.model = p_model)
      GROUP BY k.day, k.user_id, k.api_key_id, k.model
    ) AS g);
END
$$;

COMMENT ON FUNCTION budget.usage(date, date, text[], uuid, uuid, text, uuid) IS
  'What was charged from one day to another, by any of day, user, api_key, model: [{..., turns, prompt_tokens, completion_tokens, tokens, cost_micros}]: one''s own, or for some roles all.';
GRANT EXECUTE ON FUNCTION budget.usage(date, date, text[], uuid, uuid, text, uuid) TO app;
