-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION chat.abandon_turns(p_user_id uuid, p_conversation_id uuid DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_running uuid[];
BEGIN
  -- All of them are held before the first is settled: whoever ends one of them holds it before the tenant's balances.
  SELECT array_agg(held.turn_id) FILTER (WHERE held.status = 'running') INTO v_running
  FROM (
    SELECT j.turn_id, j.status
    FROM inference.jobs AS j
    JOIN chat.turns AS t ON t.tenant_id = j.tenant_id AND t.id = j.turn_id
    WHERE j.tenant_id = v_tenant AND t.user_id = p_user_id AND j.status IN ('queued', 'running')
      AND (p_conversation_id IS NULL OR t.conversation_id = p_conversation_id)
    ORDER BY j.turn_id
    FOR UPDATE OF j
  ) AS held;
  -- What is held without a job too, as for an embedding: whoever settles it holds it before the balances.
  PERFORM FROM budget.reservations AS r
  WHERE r.tenant_id = v_tenant AND r.user_id = p_user_id AND r.closed_at IS NULL
    AND (p_conversation_id IS NULL OR EXISTS (
      SELECT FROM chat.turns AS t WHERE t.tenant_id = v_tenant AND t.id = r.turn_id AND t.conversation_id = p_conversation_id))
  ORDER BY r.turn_id
  FOR UPDATE;
  -- What those that are generated have used is not known, so that what they hold is charged.
  PERFORM budget.charge_held(r.turn_id) FROM unnest(v_running) AS r (turn_id);
  PERFORM budget.release(r.turn_id)
  FROM budget.reservations AS r
  WHERE r.tenant_id = v_tenant AND r.user_id = p_user_id AND r.closed_at IS NULL
    AND (p_conversation_id IS NULL OR EXISTS (
      SELECT FROM chat.turns AS t WHERE t.tenant_id = v_tenant AND t.id = r.turn_id AND t.conversation_id = p_conversation_id));
END
$$;

COMMENT ON FUNCTION chat.abandon_turns(uuid, uuid) IS
  'Ends what a user''s unfinished turns hold, all or those of one conversation, and holds their jobs. Internal: the caller lets no other begin, and deletes them in the same transaction, '
  'so that their workers find their leases lost.';
