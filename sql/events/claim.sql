-- requires: 000_core
-- A claim is a lease: no transaction stays open while the relay talks HTTP. SKIP LOCKED lets relays run side by side.
-- Never "id > last seen": sequence numbers commit out of order, and a late one would be skipped for good.
CREATE OR REPLACE FUNCTION events.claim(p_limit integer DEFAULT 100, p_lease interval DEFAULT '30 seconds')
RETURNS TABLE (id uuid, source text, type text, subject text, created_at timestamptz, extensions jsonb, data jsonb)
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  WITH due AS (
    SELECT o.id
    FROM events.outbox AS o
    WHERE o.available_at <= now()
    ORDER BY o.available_at, o.seq
    LIMIT p_limit
    FOR UPDATE SKIP LOCKED
  )
  UPDATE events.outbox AS o
  SET available_at = now() + p_lease, attempts = o.attempts + 1
  FROM due
  WHERE o.id = due.id
  RETURNING o.id, '/tenants/' || o.tenant_id, o.type, o.subject, o.created_at,
    o.extensions || jsonb_build_object('tenantid', o.tenant_id), o.data
$$;

COMMENT ON FUNCTION events.claim(integer, interval) IS
  'Up to p_limit due events for the calling relay; unless acknowledged or rejected they are due again after p_lease.';
GRANT EXECUTE ON FUNCTION events.claim(integer, interval) TO relay;
