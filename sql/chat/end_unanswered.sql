-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION chat.end_unanswered(p_turn_id uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  UPDATE inference.jobs AS j SET status = 'stopped', leased_by = NULL, leased_until = NULL
  WHERE j.tenant_id = v_tenant AND j.turn_id = p_turn_id;
  UPDATE chat.turns AS t
  SET status = 'stopped', stop_requested_at = coalesce(t.stop_requested_at, now()), finished_at = clock_timestamp(),
      prompt_tokens = 0, completion_tokens = 0
  WHERE t.tenant_id = v_tenant AND t.id = p_turn_id;
  PERFORM budget.release(p_turn_id);
END
$$;

COMMENT ON FUNCTION chat.end_unanswered(uuid) IS 'Ends a stopped turn that nobody generates: no message, no charge. Internal: the caller holds the job''s row.';
