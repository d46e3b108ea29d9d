-- requires: 000_core
CREATE OR REPLACE FUNCTION core.check_time_zone(p_time_zone text)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- AT TIME ZONE takes offsets and abbreviations as well, which know no summer time.
  IF p_time_zone IS NOT NULL AND NOT EXISTS (SELECT FROM pg_timezone_names AS z WHERE z.name = p_time_zone) THEN
    PERFORM ops.raise_problem('invalid_request', 'time_zone: must be the name of an IANA time zone, such as Europe/Berlin.');
  END IF;
END
$$;

COMMENT ON FUNCTION core.check_time_zone(text) IS 'Raises invalid_request unless it is NULL or the name of a time zone. Internal.';
