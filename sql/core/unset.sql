-- requires: 000_core
CREATE OR REPLACE FUNCTION core.unset(p_code text, p_message text)
RETURNS uuid
LANGUAGE plpgsql STABLE
AS $$
BEGIN
  PERFORM ops.raise_problem(p_code, p_message);
END
$$;

COMMENT ON FUNCTION core.unset(text, text) IS 'Raises a problem where an expression needs an id that is not set. Internal to core.require_tenant and core.require_user.';
GRANT EXECUTE ON FUNCTION core.unset(text, text) TO app;
