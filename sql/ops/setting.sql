-- requires: 000_core
CREATE OR REPLACE FUNCTION ops.setting(p_name text)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
  SELECT s.value FROM ops.settings AS s WHERE s.name = p_name
$$;

COMMENT ON FUNCTION ops.setting(text) IS 'A deployment variable by its name in lower case; NULL when it is not set.';
GRANT EXECUTE ON FUNCTION ops.setting(text) TO app, dba_readonly;
