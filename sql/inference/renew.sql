-- requires: 000_core
-- One call for all that a process generates, of whatever tenants. It is asked often, so that a stop is heard soon, and writes only
-- leases of which a third is over. A row that somebody else holds is just ending: it is not waited for.
CREATE OR REPLACE FUNCTION inference.renew(p_worker text, p_lease interval, p_runs jsonb)
RETURNS TABLE (job_id uuid, attempt integer, state text)
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  WITH run AS (
    SELECT * FROM jsonb_to_recordset(p_runs) AS r (tenant_id uuid, job_id uuid, attempt integer, generated_tokens integer)
  ), held AS (
    SELECT j.tenant_id, j.id, j.attempts, run.generated_tokens, j.leased_until, t.stop_requested_at
    FROM run
    JOIN inference.jobs AS j ON j.tenant_id = run.tenant_id AND j.id = run.job_id
      AND j.status = 'running' AND j.leased_by = p_worker AND j.attempts = run.attempt
    JOIN chat.turns AS t ON t.tenant_id = j.tenant_id AND t.id = j.turn_id
  ), due AS (
    SELECT j.tenant_id, j.id
    FROM inference.jobs AS j
    JOIN held ON held.tenant_id = j.tenant_id AND held.id = j.id AND held.attempts = j.attempts
    WHERE held.leased_until < clock_timestamp() + p_lease * 2 / 3 AND j.status = 'running' AND j.leased_by = p_worker
    FOR UPDATE OF j SKIP LOCKED
  ), renewed AS (
    UPDATE inference.jobs AS j
    SET leased_until = clock_timestamp() + p_lease, generated_tokens = held.generated_tokens
    FROM due
    JOIN held ON held.tenant_id = due.tenant_id AND held.id = due.id
    WHERE j.tenant_id = due.tenant_id AND j.id = due.id AND j.attempts = held.attempts
  )
  SELECT run.job_id, run.attempt, CASE WHEN held.id IS NULL THEN 'lost' WHEN held.stop_requested_at IS NOT NULL THEN 'stop' ELSE 'held' END
  FROM run
  LEFT JOIN held ON held.tenant_id = run.tenant_id AND held.id = run.job_id AND held.attempts = run.attempt
$$;

COMMENT ON FUNCTION inference.renew(text, interval, jsonb) IS
  'Prolongs a worker''s leases, [{tenant_id, job_id, attempt, generated_tokens}], and notes how far each is. One row each: held; stop, when the user wants no more; lost, when the '
  'worker must not write any longer.';
GRANT EXECUTE ON FUNCTION inference.renew(text, interval, jsonb) TO app;
