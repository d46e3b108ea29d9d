-- requires: 012_budget_metrics
-- It runs with the caller's rights: which turns a user may read is the policy of chat.turns.
CREATE OR REPLACE FUNCTION chat.read_turn(p_turn_id uuid)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM chat.turns AS t WHERE t.tenant_id = core.require_tenant() AND t.id = p_turn_id) THEN
    PERFORM ops.raise_problem('not_found', 'There is no such turn.', jsonb_build_object('turn_id', p_turn_id));
  END IF;
  RETURN chat.turn_result(p_turn_id);
END
$$;

COMMENT ON FUNCTION chat.read_turn(uuid) IS 'chat.turn_result of a turn that the current user may read: an own one, or one of a shared conversation; raises not_found.';
GRANT EXECUTE ON FUNCTION chat.read_turn(uuid) TO app;
