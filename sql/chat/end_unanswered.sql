-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION chat.end_unanswered(p_turn_id uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_generated integer;
  v_turn chat.turns;
BEGIN
  UPDATE inference.jobs AS j
  SET status = 'stopped', leased_by = NULL, leased_until = NULL, history = inference.attempt_ended(j.history, 'lost', j.leased_until)
  WHERE j.tenant_id = v_tenant AND j.turn_id = p_turn_id
  RETURNING j.generated_tokens INTO v_generated;
  UPDATE chat.turns AS t
  SET status = 'stopped', stop_requested_at = coalesce(t.stop_requested_at, now()), finished_at = clock_timestamp(),
      prompt_tokens = CASE v_generated WHEN 0 THEN 0 ELSE chat.estimated_prompt(p_turn_id) END,
      completion_tokens = least(v_generated, t.max_tokens)
  WHERE t.tenant_id = v_tenant AND t.id = p_turn_id
  RETURNING t.* INTO v_turn;
  PERFORM budget.settle(p_turn_id, v_turn.prompt_tokens, v_turn.completion_tokens);
END
$$;

COMMENT ON FUNCTION chat.end_unanswered(uuid) IS
  'Ends a stopped turn that nobody generates: no message, and no charge but for what a worker that died had generated. Internal: the caller holds the job''s row.';
