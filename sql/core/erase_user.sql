-- requires: 012_budget_metrics
-- What was spent stays in the ledger, and what was done in the audit log: both hold the user's id, which then names nobody.
CREATE OR REPLACE FUNCTION core.erase_user(p_user_id uuid)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_running uuid[];
  v_erased jsonb;
BEGIN
  PERFORM core.require_operation('users.erase');
  PERFORM core.require_other_user(p_user_id);
  -- Turns that are still generated end here. What they have used is not known, so that what they hold is charged.
  -- Limits before balances, as where they are changed.
  PERFORM FROM budget.limits AS l
  WHERE l.tenant_id = v_tenant AND l.holder_id IN (
    SELECT p_user_id UNION ALL SELECT k.id FROM core.api_keys AS k WHERE k.tenant_id = v_tenant AND k.user_id = p_user_id)
  ORDER BY l.holder_id, l.period
  FOR UPDATE;
  -- All of them are held before the first is settled: whoever ends one of them holds it before the tenant's balances.
  SELECT array_agg(held.turn_id) FILTER (WHERE held.status = 'running') INTO v_running
  FROM (
    SELECT j.turn_id, j.status
    FROM inference.jobs AS j
    JOIN chat.turns AS t ON t.tenant_id = j.tenant_id AND t.id = j.turn_id
    WHERE j.tenant_id = v_tenant AND t.user_id = p_user_id AND j.status IN ('queued', 'running')
    ORDER BY j.turn_id
    FOR UPDATE OF j
  ) AS held;
  PERFORM budget.charge_held(r.turn_id) FROM unnest(v_running) AS r (turn_id);
  PERFORM budget.release(r.turn_id) FROM budget.reservations AS r WHERE r.tenant_id = v_tenant AND r.user_id = p_user_id AND r.closed_at IS NULL;
  v_erased := jsonb_build_object(
    'conversations', (SELECT count(*) FROM chat.conversations AS c WHERE c.tenant_id = v_tenant AND c.user_id = p_user_id),
    'keys', (SELECT coalesce(jsonb_agg(k.id ORDER BY k.id), '[]') FROM core.api_keys AS k WHERE k.tenant_id = v_tenant AND k.user_id = p_user_id));
  DELETE FROM budget.limits AS l
  WHERE l.tenant_id = v_tenant AND (
    (l.scope = 'user' AND l.holder_id = p_user_id)
    OR (l.scope = 'api_key' AND l.holder_id IN (SELECT k.id FROM core.api_keys AS k WHERE k.tenant_id = v_tenant AND k.user_id = p_user_id)));
  DELETE FROM budget.reservations AS r WHERE r.tenant_id = v_tenant AND r.user_id = p_user_id;
  DELETE FROM core.users AS u WHERE u.tenant_id = v_tenant AND u.id = p_user_id;
  PERFORM compliance.append(v_tenant, 'user.erased', p_user_id::text, v_erased);
  RETURN jsonb_build_object('user_id', p_user_id) || v_erased;
END
$$;

COMMENT ON FUNCTION core.erase_user(uuid) IS
  'Deletes a user with all that is the user''s own: {user_id, conversations, keys}. Who still has a token of the identity provider begins anew. Raises not_found, forbidden.';
GRANT EXECUTE ON FUNCTION core.erase_user(uuid) TO app;
