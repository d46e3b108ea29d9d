-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.charge_held(p_turn_id uuid)
RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT budget.close(p_turn_id, r.tokens, 0, p_all_held => true)
  FROM budget.reservations AS r
  WHERE r.tenant_id = core.require_tenant() AND r.turn_id = p_turn_id
$$;

COMMENT ON FUNCTION budget.charge_held(uuid) IS 'Ends a turn''s reservation and charges all that it held, because nobody knows what was used. Internal.';
