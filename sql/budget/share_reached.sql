-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.share_reached(p_used bigint, p_limit bigint)
RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (CASE WHEN p_used >= p_limit THEN 100 WHEN p_used >= p_limit * 0.8 THEN 80 ELSE 0 END)::smallint;

COMMENT ON FUNCTION budget.share_reached(bigint, bigint) IS 'Which share of a limit is used: 0, 80 or 100 percent; 0 without a limit. Internal.';
