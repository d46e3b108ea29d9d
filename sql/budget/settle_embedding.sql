-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.settle_embedding(p_id uuid, p_tokens bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_held bigint;
BEGIN
  SELECT r.tokens INTO v_held
  FROM budget.reservations AS r
  WHERE r.tenant_id = core.require_tenant() AND r.turn_id = p_id AND r.user_id = core.require_user()
    AND NOT EXISTS (SELECT FROM chat.turns AS t WHERE t.tenant_id = r.tenant_id AND t.id = r.turn_id);
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such reservation.', jsonb_build_object('id', p_id));
  END IF;
  RETURN budget.settle(p_id, coalesce(p_tokens, v_held));
END
$$;

COMMENT ON FUNCTION budget.settle_embedding(uuid, bigint) IS
  'Ends what budget.reserve_embedding held: charges the tokens that the endpoint counted, or all that was held where it does not say. Raises not_found.';
GRANT EXECUTE ON FUNCTION budget.settle_embedding(uuid, bigint) TO app;
