-- requires: 000_core
CREATE OR REPLACE FUNCTION events.acknowledge(p_seqs bigint[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
  -- As for a claim: what a crash of the server takes back is delivered again.
  PERFORM set_config('synchronous_commit', 'off', true);
  DELETE FROM events.outbox AS o WHERE o.seq = ANY (p_seqs);
END
$$;

COMMENT ON FUNCTION events.acknowledge(bigint[]) IS 'The broker has accepted these events: they leave the outbox.';
GRANT EXECUTE ON FUNCTION events.acknowledge(bigint[]) TO relay;
