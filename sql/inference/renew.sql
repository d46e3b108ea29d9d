-- requires: 000_core
CREATE OR REPLACE FUNCTION inference.renew(p_job_id uuid, p_worker text, p_attempt integer, p_lease interval, p_generated_tokens integer DEFAULT 0)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_turn uuid;
BEGIN
  UPDATE inference.jobs AS j SET leased_until = clock_timestamp() + p_lease, generated_tokens = p_generated_tokens
  WHERE j.tenant_id = core.require_tenant() AND j.id = p_job_id
    AND j.status = 'running' AND j.leased_by = p_worker AND j.attempts = p_attempt
  RETURNING j.turn_id INTO v_turn;
  IF NOT FOUND THEN
    RETURN 'lost';
  END IF;
  RETURN (
    SELECT CASE WHEN t.stop_requested_at IS NULL THEN 'held' ELSE 'stop' END
    FROM chat.turns AS t
    WHERE t.tenant_id = core.require_tenant() AND t.id = v_turn);
END
$$;

COMMENT ON FUNCTION inference.renew(uuid, text, integer, interval, integer) IS
  'Prolongs a worker''s lease and notes how far it is: held; stop, when the user wants no more; or lost, when the worker must not write any longer.';
GRANT EXECUTE ON FUNCTION inference.renew(uuid, text, integer, interval, integer) TO app;
