-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.admit(p_model text)
RETURNS boolean
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT NOT EXISTS (SELECT FROM routing.health AS h WHERE h.model = p_model AND h.retry_at IS NOT NULL) OR routing.begin_trial(p_model)
$$;

COMMENT ON FUNCTION routing.admit(text) IS 'Whether a turn may go to a model: it answers, or this turn is its one trial. After false another choice is needed. Internal.';
