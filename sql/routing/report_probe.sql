-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.report_probe(p_model text, p_ok boolean, p_latency_ms double precision DEFAULT NULL, p_error text DEFAULT NULL)
RETURNS text
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT routing.report(p_model, p_ok, p_latency_ms, p_error)
$$;

COMMENT ON FUNCTION routing.report_probe(text, boolean, double precision, text) IS 'What became of a probe: routing.report. It belongs to no tenant.';
GRANT EXECUTE ON FUNCTION routing.report_probe(text, boolean, double precision, text) TO app;
