-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.list_health()
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object(
    'model', m.name, 'tier', m.tier, 'endpoint', m.endpoint, 'state', coalesce(h.state, 'closed'), 'failures', coalesce(h.failures, 0),
    'retry_at', h.retry_at, 'latency_ms', round(h.latency_ms::numeric, 1), 'last_error', h.last_error,
    'last_failure_at', h.last_failure_at, 'last_success_at', h.last_success_at
  ) ORDER BY array_position(ARRAY['light', 'standard', 'heavy'], m.tier), m.name), '[]')
  FROM routing.models AS m
  LEFT JOIN routing.health AS h ON h.model = m.name
  WHERE m.enabled
$$;

COMMENT ON FUNCTION routing.list_health() IS
  'How the enabled models are: [{model, tier, endpoint, state, failures, retry_at, latency_ms, last_error, last_failure_at, last_success_at}].';
GRANT EXECUTE ON FUNCTION routing.list_health() TO app, dba_readonly;
