-- requires: 014_model_aliases
-- It runs with the caller's rights: whose aliases are seen is the policy of routing.aliases.
CREATE OR REPLACE FUNCTION routing.list_aliases()
RETURNS TABLE (name text, model text, collections text[])
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT a.name, a.model, a.collections
  FROM routing.aliases AS a
  WHERE a.tenant_id = core.require_tenant()
  ORDER BY a.name
$$;

COMMENT ON FUNCTION routing.list_aliases() IS 'The current tenant''s own model names, with the model that answers and the collections that are searched.';
GRANT EXECUTE ON FUNCTION routing.list_aliases() TO app;
