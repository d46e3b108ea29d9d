-- requires: 012_budget_metrics
-- What was spent stays in the ledger, and what was done in the audit log: both hold the user's id, which then names nobody.
CREATE OR REPLACE FUNCTION core.erase_user(p_user_id uuid)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_erased jsonb;
BEGIN
  PERFORM core.require_operation('users.erase');
  PERFORM core.require_other_user(p_user_id);
  -- Limits before balances, as where they are changed.
  PERFORM FROM budget.limits AS l
  WHERE l.tenant_id = v_tenant AND l.holder_id IN (
    SELECT p_user_id UNION ALL SELECT k.id FROM core.api_keys AS k WHERE k.tenant_id = v_tenant AND k.user_id = p_user_id)
  ORDER BY l.holder_id, l.period
  FOR UPDATE;
  PERFORM chat.abandon_turns(p_user_id);
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
