-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.release(p_turn_id uuid)
RETURNS void
LANGUAGE sql
AS $$
  SELECT budget.close(p_turn_id, 0, 0)
$$;

COMMENT ON FUNCTION budget.release(uuid) IS 'Ends a turn''s reservation and charges nothing. Internal.';
