-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.begin_trial(p_model text, p_patience interval DEFAULT '2 minutes')
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE routing.health AS h
  SET state = 'half_open', retry_at = clock_timestamp() + p_patience, updated_at = clock_timestamp()
  WHERE h.model = p_model AND h.retry_at <= clock_timestamp();
  RETURN FOUND;
END
$$;

COMMENT ON FUNCTION routing.begin_trial(text, interval) IS
  'Takes the one trial of a model whose rest is over; false when somebody else has it. A trial of which nothing is heard is over after p_patience. Internal.';
