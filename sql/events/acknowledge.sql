-- requires: 000_core
CREATE OR REPLACE FUNCTION events.acknowledge(p_ids uuid[])
RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  DELETE FROM events.outbox AS o WHERE o.id = ANY (p_ids)
$$;

COMMENT ON FUNCTION events.acknowledge(uuid[]) IS 'The broker has accepted these events: they leave the outbox.';
GRANT EXECUTE ON FUNCTION events.acknowledge(uuid[]) TO relay;
