-- requires: 000_core
-- A claim is a lease: no transaction stays open while the relay talks HTTP. SKIP LOCKED lets relays run side by side.
-- Never "seq > last seen": sequence numbers commit out of order, and a late one would be skipped for good.
--
-- An ordered event waits while an earlier one of its partition is in the outbox, leased or in its back-off. Numbers are taken
-- when an event is emitted. So when one transaction had committed before another emitted, a claim that sees the second event
-- sees the first one too, or finds it gone: they leave in that order. Between transactions that ran at the same time there is
-- no order, and nothing waits for a number that may never be committed.
CREATE OR REPLACE FUNCTION events.claim(p_limit integer DEFAULT 100, p_lease interval DEFAULT '30 seconds')
RETURNS TABLE (
  seq bigint, attempt integer, ordered boolean,
  id uuid, source text, type text, subject text, created_at timestamptz, extensions jsonb, data text
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- The table is empty one moment and large the next: the plan must not depend on when it was made.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
AS $$
#variable_conflict use_column
BEGIN
  -- Not worth waiting for the disk: a claim that a crash of the server takes back leaves the event due.
  PERFORM set_config('synchronous_commit', 'off', true);
  RETURN QUERY
  WITH heads AS (
    SELECT o.seq
    FROM events.outbox AS o
    WHERE o.ordered AND o.available_at <= now() AND o.leased_until <= now()
      AND NOT EXISTS (
        SELECT FROM events.outbox AS e
        WHERE e.ordered AND e.tenant_id = o.tenant_id
          AND e.extensions ->> 'partitionkey' = o.extensions ->> 'partitionkey' AND e.seq < o.seq)
    ORDER BY o.available_at, o.seq
    LIMIT (p_limit + 1) / 2
    FOR UPDATE OF o SKIP LOCKED
  ), unordered AS (
    SELECT o.seq
    FROM events.outbox AS o
    WHERE NOT o.ordered AND o.available_at <= now() AND o.leased_until <= now()
    ORDER BY o.available_at, o.seq
    LIMIT p_limit - (SELECT count(*) FROM heads)
    FOR UPDATE SKIP LOCKED
  )
  UPDATE events.outbox AS o
  SET leased_until = now() + p_lease, attempts = o.attempts + 1
  FROM (SELECT h.seq FROM heads AS h UNION ALL SELECT u.seq FROM unordered AS u) AS due
  WHERE o.seq = due.seq
  RETURNING o.seq, o.attempts, o.ordered, o.id, '/tenants/' || o.tenant_id, o.type, o.subject, o.created_at,
    o.extensions || jsonb_build_object('tenantid', o.tenant_id), o.data::text;
END
$$;

COMMENT ON FUNCTION events.claim(integer, interval) IS
  'Up to p_limit due events for the calling relay (data: JSON as text); unless acknowledged or rejected they are due again after p_lease.';
GRANT EXECUTE ON FUNCTION events.claim(integer, interval) TO relay;
