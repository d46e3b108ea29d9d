-- requires: 000_core
CREATE OR REPLACE FUNCTION core.has_role(p_role text)
RETURNS boolean
LANGUAGE sql STABLE
AS $$
  SELECT p_role = ANY (string_to_array(current_setting('app.roles', true), ',')) IS TRUE OR core.is_operator()
$$;

COMMENT ON FUNCTION core.has_role(text) IS 'Whether the statement acts with a role, as core.enter has found it.';
GRANT EXECUTE ON FUNCTION core.has_role(text) TO app;
