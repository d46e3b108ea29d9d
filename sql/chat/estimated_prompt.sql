-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION chat.estimated_prompt(p_turn_id uuid)
RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT budget.estimate_prompt(chat.prompt(p_turn_id)) + coalesce(budget.estimate_tokens((t.request -> 'parameters')::text), 0)
  FROM chat.turns AS t
  WHERE t.tenant_id = core.require_tenant() AND t.id = p_turn_id
$$;

COMMENT ON FUNCTION chat.estimated_prompt(uuid) IS 'An upper estimate of the tokens that a turn sends to its model: its prompt, and tools and other parameters. Internal.';
