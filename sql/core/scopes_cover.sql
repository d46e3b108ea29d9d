-- requires: 000_core
CREATE OR REPLACE FUNCTION core.scopes_cover(p_scopes text[], p_scope text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT p_scopes IS NULL OR p_scope = ANY (p_scopes) OR (p_scope LIKE '%:read' AND left(p_scope, -5) = ANY (p_scopes))
$$;

COMMENT ON FUNCTION core.scopes_cover(text[], text) IS
  'Whether a key''s scopes (NULL: no limit) hold a scope: itself, or for documents:read the wider one, documents.';
GRANT EXECUTE ON FUNCTION core.scopes_cover(text[], text) TO app, dba_readonly;
