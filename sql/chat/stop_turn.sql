-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION chat.stop_turn(p_turn_id uuid)
RETURNS jsonb
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  PERFORM chat.read_turn(p_turn_id);
  -- Nobody generates yet: it ends here, and nothing is charged. Otherwise the worker sees the wish when it renews its lease.
  UPDATE inference.jobs AS j SET status = 'stopped'
  WHERE j.tenant_id = v_tenant AND j.turn_id = p_turn_id AND j.status = 'queued';
  IF FOUND THEN
    UPDATE chat.turns AS t
    SET status = 'stopped', stop_requested_at = now(), finished_at = now(), prompt_tokens = 0, completion_tokens = 0
    WHERE t.tenant_id = v_tenant AND t.id = p_turn_id;
    PERFORM budget.settle(p_turn_id, 0);
  ELSE
    UPDATE chat.turns AS t SET stop_requested_at = coalesce(t.stop_requested_at, now())
    WHERE t.tenant_id = v_tenant AND t.id = p_turn_id AND t.status = 'running';
  END IF;
  RETURN chat.turn_result(p_turn_id);
END
$$;

COMMENT ON FUNCTION chat.stop_turn(uuid) IS 'Ends one of the current user''s turns; what was generated is kept and charged. Raises not_found.';
GRANT EXECUTE ON FUNCTION chat.stop_turn(uuid) TO app;
