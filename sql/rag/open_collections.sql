-- requires: 008_ingestion_pipeline
-- Without a user it is the work of an event function, which is the tenant's. With the owner's rights, because the policies of the
-- collections call it: one that read by itself would ask itself.
CREATE OR REPLACE FUNCTION rag.open_collections(p_access text)
RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  WITH me AS MATERIALIZED (
    SELECT core.current_tenant() AS tenant_id, core.current_user_id() AS id,
      core.current_user_id() IS NULL OR core.has_role('tenant_admin') AS everything,
      string_to_array(current_setting('app.roles', true), ',') AS roles
  )
  SELECT ARRAY(
    SELECT c.id FROM rag.collections AS c
    WHERE c.tenant_id = me.tenant_id AND (me.everything OR c.visibility = 'tenant' OR c.created_by = me.id)
    UNION
    SELECT g.collection_id
    FROM rag.collection_grants AS g
    LEFT JOIN core.users AS u ON u.tenant_id = g.tenant_id AND u.id = me.id
    WHERE g.tenant_id = me.tenant_id AND (p_access = 'read' OR g.access = 'write')
      AND (g.user_id = me.id OR g.group_name = ANY (u.groups) OR g.role::text = ANY (me.roles)))
  FROM me
$$;

COMMENT ON FUNCTION rag.open_collections(text) IS 'The collections of the current tenant that the current user may read or write; without a user all. Internal.';
