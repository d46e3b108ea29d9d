-- requires: 012_budget_metrics
-- What is past its use: a dead letter that nobody has looked at for a quarter is of no use to its consumer. Until then it may be
-- sent again, and a broker may have tried for days before it was one: what its consumer has done is remembered for longer.
-- At most so many rows a run, so that no run is long.
CREATE OR REPLACE FUNCTION ops.maintain(p_limit integer DEFAULT 1000000)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $$
DECLARE
  v_inbox integer;
  v_letters integer;
BEGIN
  DELETE FROM events.inbox AS i
  WHERE i.ctid = ANY (ARRAY(SELECT o.ctid FROM events.inbox AS o WHERE o.processed_at < now() - interval '120 days' LIMIT p_limit FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS v_inbox = ROW_COUNT;
  DELETE FROM events.dead_letters AS d
  WHERE d.ctid = ANY (ARRAY(SELECT o.ctid FROM events.dead_letters AS o WHERE o.died_at < now() - interval '90 days' LIMIT p_limit FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS v_letters = ROW_COUNT;
  RETURN jsonb_build_object('inbox', v_inbox, 'dead_letters', v_letters);
END
$$;

COMMENT ON FUNCTION ops.maintain(integer) IS
  'Daily: inbox rows of more than 120 days and dead letters of more than 90 go. Works for all tenants. Returns how many of each.';
GRANT EXECUTE ON FUNCTION ops.maintain(integer) TO app;
