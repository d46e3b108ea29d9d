-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION chat.read_turn(p_turn_id uuid)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (
    SELECT FROM chat.turns AS t
    WHERE t.tenant_id = core.require_tenant() AND t.id = p_turn_id AND t.user_id = core.current_user_id()
  ) THEN
    PERFORM ops.raise_problem('not_found', 'There is no such turn.', jsonb_build_object('turn_id', p_turn_id));
  END IF;
  RETURN chat.turn_result(p_turn_id);
END
$$;

COMMENT ON FUNCTION chat.read_turn(uuid) IS 'chat.turn_result of one of the current user''s turns; raises not_found.';
GRANT EXECUTE ON FUNCTION chat.read_turn(uuid) TO app;
