-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION chat.stop_turn(p_turn_id uuid)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  IF NOT EXISTS (
    SELECT FROM chat.turns AS t WHERE t.tenant_id = v_tenant AND t.id = p_turn_id AND t.user_id = core.require_user()
  ) THEN
    PERFORM ops.raise_problem('not_found', 'There is no such turn.', jsonb_build_object('turn_id', p_turn_id));
  END IF;
  -- Nobody generates yet: it ends here, and nothing is charged. Otherwise the worker sees the wish when it renews its lease.
  PERFORM FROM inference.jobs AS j
  WHERE j.tenant_id = v_tenant AND j.turn_id = p_turn_id AND j.status = 'queued'
  FOR UPDATE;
  IF FOUND THEN
    PERFORM chat.end_unanswered(p_turn_id);
  ELSE
    UPDATE chat.turns AS t SET stop_requested_at = coalesce(t.stop_requested_at, now())
    WHERE t.tenant_id = v_tenant AND t.id = p_turn_id AND t.status = 'running';
  END IF;
  RETURN chat.turn_result(p_turn_id);
END
$$;

COMMENT ON FUNCTION chat.stop_turn(uuid) IS 'Ends one of the current user''s turns; what was generated is kept and charged. Raises not_found.';
GRANT EXECUTE ON FUNCTION chat.stop_turn(uuid) TO app;
