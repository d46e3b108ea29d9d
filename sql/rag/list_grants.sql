-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.list_grants(p_name text)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_collection rag.collections;
BEGIN
  PERFORM core.require_operation('collections.share');
  v_collection := rag.collection_to_manage(p_name);
  RETURN jsonb_build_object('collection', p_name, 'visibility', v_collection.visibility, 'grants', (
    SELECT coalesce(jsonb_agg(
      jsonb_strip_nulls(jsonb_build_object('user', g.user_id, 'group', g.group_name, 'role', g.role, 'access', g.access))
      ORDER BY g.user_id, g.group_name, g.role), '[]')
    FROM rag.collection_grants AS g
    WHERE g.tenant_id = v_tenant AND g.collection_id = v_collection.id));
END
$$;

COMMENT ON FUNCTION rag.list_grants(text) IS
  'To whom a collection that the current user manages is granted: {collection, visibility, grants: [{user or group or role, access}]}. Raises not_found, forbidden.';
GRANT EXECUTE ON FUNCTION rag.list_grants(text) TO app;
