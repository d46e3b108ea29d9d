-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.claim_probes()
RETURNS TABLE (model text, endpoint text)
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT m.name, m.endpoint
  FROM routing.models AS m
  JOIN routing.health AS h ON h.model = m.name
  WHERE m.enabled AND h.retry_at <= clock_timestamp() AND routing.begin_trial(m.name)
$$;

COMMENT ON FUNCTION routing.claim_probes() IS 'The models whose rest is over, each to be probed by the caller alone. They belong to no tenant.';
GRANT EXECUTE ON FUNCTION routing.claim_probes() TO app;
