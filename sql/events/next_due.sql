-- requires: 000_core
CREATE OR REPLACE FUNCTION events.next_due()
RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
  SELECT extract(epoch FROM least(
    (SELECT min(o.available_at) FROM events.outbox AS o WHERE NOT o.ordered AND o.available_at > now()),
    (SELECT min(o.available_at) FROM events.outbox AS o WHERE o.ordered AND o.available_at > now())) - now())
$$;

COMMENT ON FUNCTION events.next_due() IS 'Seconds until the first back-off ends; NULL when no event waits for one. A relay with nothing to do sleeps until then.';
GRANT EXECUTE ON FUNCTION events.next_due() TO relay;
