-- requires: 000_core
CREATE OR REPLACE FUNCTION ops.raise_problem(p_code text, p_message text, p_data jsonb DEFAULT '{}')
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = (SELECT p.sqlstate FROM ops.problems() AS p WHERE p.code = p_code),
    MESSAGE = p_message,
    DETAIL = p_data::text;
END
$$;

COMMENT ON FUNCTION ops.raise_problem(text, text, jsonb) IS
  'Raises one of ops.problems(). The message is shown to the caller; the data becomes members of the problem document (RFC 9457).';
GRANT EXECUTE ON FUNCTION ops.raise_problem(text, text, jsonb) TO app, dba_readonly;
