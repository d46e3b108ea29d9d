-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.available(p_health routing.health)
RETURNS boolean
LANGUAGE sql STABLE
AS $$
  SELECT p_health.retry_at IS NULL OR p_health.retry_at <= clock_timestamp()
$$;

COMMENT ON FUNCTION routing.available(routing.health) IS 'Whether a model may be tried: it answers, was never tried, or its rest is over.';
GRANT EXECUTE ON FUNCTION routing.available(routing.health) TO app, dba_readonly;
