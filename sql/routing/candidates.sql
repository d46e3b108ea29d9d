-- requires: 012_budget_metrics
-- A tier never falls back to a higher one: that would cost more than was decided. Within a tier the rule's own model comes first,
-- then the one that the variables name, then the cheaper.
CREATE OR REPLACE FUNCTION routing.candidates(
  p_tier text, p_model text, p_preferred text, p_features jsonb, p_prompt_tokens bigint, p_max_tokens bigint
)
RETURNS TABLE (place bigint, model text, tier text, cost_micros bigint, rejected text, why text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH tiers AS (
    SELECT t.tier, t.rank FROM (VALUES ('light', 1), ('standard', 2), ('heavy', 3)) AS t (tier, rank)
  ), room AS MATERIALIZED (
    SELECT budget.cost_room() AS micros
  )
  SELECT row_number() OVER (ORDER BY tiers.rank DESC, m.name = p_preferred DESC NULLS LAST, m.name = ops.setting('model_' || m.tier) DESC,
                                     m.output_price NULLS LAST, m.name),
    m.name, m.tier, c.micros, o.said ->> 'rejected', o.said ->> 'why'
  FROM routing.models AS m
  JOIN tiers ON tiers.tier = m.tier
  LEFT JOIN routing.health AS h ON h.model = m.name
  CROSS JOIN room
  CROSS JOIN LATERAL (SELECT budget.cost(p_prompt_tokens, p_max_tokens, m.input_price, m.output_price)) AS c (micros)
  CROSS JOIN LATERAL (SELECT routing.objection(m, h, p_features, p_prompt_tokens + p_max_tokens, c.micros, room.micros)) AS o (said)
  WHERE CASE WHEN p_model IS NOT NULL THEN m.name = p_model
             ELSE tiers.rank <= (SELECT wanted.rank FROM tiers AS wanted WHERE wanted.tier = p_tier) END
$$;

COMMENT ON FUNCTION routing.candidates(text, text, text, jsonb, bigint, bigint) IS
  'The models that could answer, best first, each with what stands against it: disabled, residency, context_window, tools, health or budget; NULL: nothing.';
GRANT EXECUTE ON FUNCTION routing.candidates(text, text, text, jsonb, bigint, bigint) TO app, dba_readonly;
