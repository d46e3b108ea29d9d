-- requires: 000_core
-- A breaker (Nygard, "Release It!", 2007): closed, it counts failures in a row; at the fifth it opens, and the model is left alone
-- for half a minute, twice as long each time it opens again, ten minutes at most; then one turn or probe tries it (half open).
-- That all is well is noted at most every ten seconds, and never waited for: the row belongs to all tenants.
CREATE OR REPLACE FUNCTION routing.report(p_model text, p_ok boolean, p_latency_ms double precision DEFAULT NULL, p_error text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
  c_failures constant integer := 5;
  c_rest constant interval := '30 seconds';
  c_longest constant interval := '10 minutes';
  c_quiet constant interval := '10 seconds';
  c_weight constant double precision := 0.2;
  v_health routing.health;
BEGIN
  SELECT * INTO v_health FROM routing.health AS h WHERE h.model = p_model;
  IF FOUND AND p_ok AND v_health.state = 'closed' AND v_health.failures = 0 AND v_health.updated_at >= clock_timestamp() - c_quiet THEN
    RETURN 'closed';
  END IF;
  IF NOT EXISTS (SELECT FROM routing.models AS m WHERE m.name = p_model) THEN
    RETURN NULL;
  END IF;
  -- Not tried where there is one, because ON CONFLICT waits for whoever is just changing the row.
  IF v_health.model IS NULL THEN
    INSERT INTO routing.health (model, updated_at) VALUES (p_model, '-infinity') ON CONFLICT (model) DO NOTHING;
  END IF;
  IF p_ok THEN
    UPDATE routing.health AS h
    SET state = 'closed', failures = 0, openings = 0, retry_at = NULL, last_success_at = clock_timestamp(), updated_at = clock_timestamp(),
        latency_ms = coalesce(h.latency_ms * (1 - c_weight) + p_latency_ms * c_weight, p_latency_ms, h.latency_ms)
    FROM (
      SELECT q.model FROM routing.health AS q WHERE q.model = p_model FOR UPDATE SKIP LOCKED
    ) AS free
    WHERE h.model = free.model
    RETURNING h.* INTO v_health;
  ELSE
    UPDATE routing.health AS h
    SET failures = h.failures + 1, last_error = left(p_error, 200), last_failure_at = clock_timestamp(), updated_at = clock_timestamp()
    WHERE h.model = p_model
    RETURNING h.* INTO v_health;
    -- A trial that failed, or the fifth failure in a row; what fails while it is open began before.
    IF v_health.state = 'half_open' OR (v_health.state = 'closed' AND v_health.failures >= c_failures) THEN
      UPDATE routing.health AS h
      SET state = 'open', openings = h.openings + 1, retry_at = clock_timestamp() + least(c_longest, c_rest * 2 ^ least(h.openings, 10))
      WHERE h.model = p_model
      RETURNING h.* INTO v_health;
    END IF;
  END IF;
  RETURN coalesce(v_health.state, 'closed');
END
$$;

COMMENT ON FUNCTION routing.report(text, boolean, double precision, text) IS
  'What became of a request to a model: that it answered, with the milliseconds to its first token, or failed. Returns the breaker''s state. Internal.';
