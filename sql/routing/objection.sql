-- requires: 012_budget_metrics
-- Without a SET clause and in one expression, so that it is inlined.
CREATE OR REPLACE FUNCTION routing.objection(
  p_model routing.models, p_health routing.health, p_features jsonb, p_tokens bigint, p_cost_micros bigint, p_room_micros bigint
)
RETURNS jsonb
LANGUAGE sql STABLE
AS $$
  SELECT CASE
    WHEN NOT p_model.enabled THEN '{"rejected": "disabled", "why": "an administrator has disabled it"}'::jsonb
    WHEN NOT (p_features ->> 'region') = ANY (p_model.regions) THEN jsonb_build_object('rejected', 'residency', 'why',
      format('it runs in %s, and the tenant''s data stays in %s', array_to_string(p_model.regions, ', '), p_features ->> 'region'))
    WHEN p_tokens > p_model.context_window THEN jsonb_build_object('rejected', 'context_window', 'why',
      format('%s tokens are needed, and its window has %s', p_tokens, p_model.context_window))
    WHEN (p_features ->> 'tools')::integer > 0 AND NOT p_model.tools THEN '{"rejected": "tools", "why": "it calls no tools"}'::jsonb
    WHEN NOT routing.available(p_health) THEN jsonb_build_object('rejected', 'health', 'why',
      format('it failed %s times in a row, at last with %s; tried again from %s',
             p_health.failures, coalesce(p_health.last_error, 'no answer'), to_char(p_health.retry_at AT TIME ZONE 'UTC', 'HH24:MI:SS"Z"')))
    WHEN p_cost_micros > p_room_micros THEN jsonb_build_object('rejected', 'budget', 'why',
      format('%s millionths are needed, and %s are left', p_cost_micros, p_room_micros))
  END
$$;

COMMENT ON FUNCTION routing.objection(routing.models, routing.health, jsonb, bigint, bigint, bigint) IS
  'What stands against a model, {rejected, why}: disabled, residency, context_window, tools, health or budget, the first that holds; NULL: nothing. Internal.';
GRANT EXECUTE ON FUNCTION routing.objection(routing.models, routing.health, jsonb, bigint, bigint, bigint) TO app, dba_readonly;
