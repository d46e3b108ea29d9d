-- requires: 000_core
CREATE OR REPLACE FUNCTION core.require_operation(VARIADIC p_operations text[])
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT (current_setting('app.operation', true) = ANY (p_operations) IS TRUE OR core.is_operator()) THEN
    PERFORM ops.raise_problem('forbidden', format('The request was not admitted to %s.', array_to_string(p_operations, ' or ')));
  END IF;
END
$$;

COMMENT ON FUNCTION core.require_operation(text[]) IS
  'Raises forbidden unless core.enter has admitted this transaction to one of the operations. What administers users, keys and the log starts with it.';
GRANT EXECUTE ON FUNCTION core.require_operation(text[]) TO app;
