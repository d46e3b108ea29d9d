-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.list_rules()
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(jsonb_strip_nulls(to_jsonb(r) - 'tenants') ORDER BY r.position), '[]')
  FROM routing.rules AS r
  WHERE r.tenants IS NULL OR core.current_tenant() = ANY (r.tenants)
$$;

COMMENT ON FUNCTION routing.list_rules() IS 'The rules in their order that can concern the current tenant, each with the conditions that it has.';
GRANT EXECUTE ON FUNCTION routing.list_rules() TO app;
