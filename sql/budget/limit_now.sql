-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.limit_now(p_target bigint, p_moved bigint)
RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE WHEN p_target IS NOT NULL THEN greatest(p_target, p_moved) END
$$;

COMMENT ON FUNCTION budget.limit_now(bigint, bigint) IS
  'The limit of a balance, of the one that was set and what is used and held: it comes down no faster than that. NULL: none. Internal.';
