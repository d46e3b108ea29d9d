-- requires: 012_budget_metrics
-- What is not there any more went with the user, who was erased meanwhile.
CREATE OR REPLACE FUNCTION budget.settle_embedding(p_id uuid, p_tokens bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(sum(budget.settle(r.turn_id, coalesce(p_tokens, r.tokens))), 0)::bigint
  FROM budget.reservations AS r
  WHERE r.tenant_id = core.require_tenant() AND r.turn_id = p_id AND r.user_id = core.require_user()
    AND NOT EXISTS (SELECT FROM chat.turns AS t WHERE t.tenant_id = r.tenant_id AND t.id = r.turn_id)
$$;

COMMENT ON FUNCTION budget.settle_embedding(uuid, bigint) IS
  'Ends what budget.reserve_embedding or budget.reserve_question held: charges the tokens that the endpoint counted, all that was held where it does not say, or nothing (0) where it did not '
  'answer. A second call changes nothing. Returns what was charged: 0 too where nothing is held (any more).';
GRANT EXECUTE ON FUNCTION budget.settle_embedding(uuid, bigint) TO app;
