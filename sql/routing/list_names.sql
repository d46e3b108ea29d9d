-- requires: 014_model_aliases
-- It runs with the caller's rights: whose aliases are seen is the policy of routing.aliases.
CREATE OR REPLACE FUNCTION routing.list_names()
RETURNS TABLE (name text, owner text, created_at timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH answering AS (
    SELECT m.name, m.tier, m.created_at
    FROM routing.models AS m
    JOIN core.tenants AS t ON t.id = core.require_tenant()
    WHERE m.enabled AND (m.regions IS NULL OR t.region = ANY (m.regions))
  )
  SELECT n.name, n.owner, n.created_at
  FROM (
    SELECT 1 AS place, 'auto' AS name, 'platform' AS owner, min(a.created_at) AS created_at FROM answering AS a HAVING count(*) > 0
    UNION ALL
    SELECT 2, a.tier, 'platform', min(a.created_at) FROM answering AS a GROUP BY a.tier
    UNION ALL
    SELECT 3, a.name, 'platform', a.created_at FROM answering AS a
    UNION ALL
    SELECT 4, l.name, 'tenant', l.created_at FROM routing.aliases AS l WHERE l.tenant_id = core.require_tenant()
    UNION ALL
    SELECT 5, rag.active_model() ->> 'name', 'platform', min(a.created_at) FROM answering AS a HAVING count(*) > 0
  ) AS n
  ORDER BY n.place, array_position(ARRAY['light', 'standard', 'heavy'], n.name), n.name
$$;

COMMENT ON FUNCTION routing.list_names() IS
  'What a request may name as its model: auto, the tiers, the models of the tenant''s region, its aliases; last the embedding model.';
GRANT EXECUTE ON FUNCTION routing.list_names() TO app;
