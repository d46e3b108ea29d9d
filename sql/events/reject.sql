-- requires: 000_core
CREATE OR REPLACE FUNCTION events.reject(p_id uuid, p_status integer, p_error text)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- What Knative retries; no status at all is a broker that cannot be reached, which is waited for without end.
  c_retryable constant boolean := p_status IS NULL OR p_status IN (404, 408, 409, 429) OR p_status >= 500;
  c_max_refusals constant integer := 12;
  v_event events.outbox;
BEGIN
  UPDATE events.outbox AS o
  SET available_at = now() + least(interval '1 minute', interval '250 milliseconds' * 2 ^ least(o.attempts, 10)),
      refusals = o.refusals + (p_status IS NOT NULL)::integer,
      last_status = p_status,
      last_error = left(p_error, 2000)
  WHERE o.id = p_id
  RETURNING o.* INTO v_event;
  IF NOT FOUND THEN
    RETURN 'gone';
  END IF;
  IF c_retryable AND (p_status IS NULL OR v_event.refusals < c_max_refusals) THEN
    RETURN 'retry';
  END IF;
  INSERT INTO events.dead_letters
    (id, tenant_id, type, subject, extensions, data, created_at, attempts, last_status, last_error)
  VALUES (v_event.id, v_event.tenant_id, v_event.type, v_event.subject, v_event.extensions, v_event.data,
          v_event.created_at, v_event.attempts, v_event.last_status, v_event.last_error);
  DELETE FROM events.outbox AS o WHERE o.id = p_id;
  RETURN 'dead';
END
$$;

COMMENT ON FUNCTION events.reject(uuid, integer, text) IS
  'The broker refused the event (NULL status: could not be reached). Returns retry (after an exponential back-off), dead (moved to dead_letters) or gone.';
GRANT EXECUTE ON FUNCTION events.reject(uuid, integer, text) TO relay;
