-- requires: 000_core
CREATE OR REPLACE FUNCTION events.reject(p_refusals jsonb)
RETURNS TABLE (seq bigint, outcome text)
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
  -- After its lease an event may be in other hands: the attempt tells whose word counts. What Knative retries is retried, up
  -- to the 12th refusal; no status at all is a broker that cannot be reached, which is waited for without end.
  WITH refused AS (
    SELECT r.*, o.attempts,
      r.status IS NOT NULL AND (o.refusals >= 11 OR NOT (r.status IN (404, 408, 409, 429) OR r.status >= 500)) AS dies
    FROM jsonb_to_recordset(p_refusals)
      AS r (seq bigint, attempt integer, status integer, error text, retry_after double precision)
    JOIN events.outbox AS o ON o.seq = r.seq AND o.attempts = r.attempt
    FOR UPDATE OF o
  ), dead AS (
    DELETE FROM events.outbox AS o
    USING refused AS r
    WHERE o.seq = r.seq AND r.dies
    RETURNING o.*, r.status, r.error
  ), buried AS (
    INSERT INTO events.dead_letters
      (id, tenant_id, type, subject, extensions, data, created_at, ordered, attempts, last_status, last_error)
    SELECT d.id, d.tenant_id, d.type, d.subject, d.extensions, d.data, d.created_at, d.ordered, d.attempts, d.status,
      left(d.error, 2000)
    FROM dead AS d
    -- The broker may have stored an event whose answer was lost, and events.bury have recorded what became of it.
    ON CONFLICT (id) DO NOTHING
  ), waiting AS (
    UPDATE events.outbox AS o
    SET leased_until = '-infinity',
        available_at = now() + greatest(
          least(interval '1 minute', interval '250 milliseconds' * 2 ^ least(r.attempts, 10)),
          least(interval '5 minutes', make_interval(secs => coalesce(r.retry_after, 0)))),
        refusals = o.refusals + (r.status IS NOT NULL)::integer,
        last_status = r.status,
        last_error = left(r.error, 2000)
    FROM refused AS r
    WHERE o.seq = r.seq AND NOT r.dies
  )
  SELECT r.seq, CASE WHEN r.dies THEN 'dead' ELSE 'retry' END FROM refused AS r
$$;

COMMENT ON FUNCTION events.reject(jsonb) IS
  'The broker refused [{seq, attempt, status (null: not reached), error, retry_after (s)}]. Outcome: retry (after a back-off) or dead (in dead_letters); no row where another claim has it.';
GRANT EXECUTE ON FUNCTION events.reject(jsonb) TO relay;
