-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.share_collection(p_name text, p_grants jsonb)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_collection rag.collections;
  v_stranger uuid;
BEGIN
  PERFORM core.require_operation('collections.share');
  v_collection := rag.collection_to_manage(p_name);
  SELECT g."user" INTO v_stranger
  FROM jsonb_to_recordset(p_grants) AS g ("user" uuid)
  WHERE g."user" IS NOT NULL AND NOT EXISTS (SELECT FROM core.users AS u WHERE u.tenant_id = v_tenant AND u.id = g."user")
  LIMIT 1;
  IF FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such user.', jsonb_build_object('user_id', v_stranger));
  END IF;
  DELETE FROM rag.collection_grants AS g WHERE g.tenant_id = v_tenant AND g.collection_id = v_collection.id;
  -- Named twice: the wider one.
  INSERT INTO rag.collection_grants (tenant_id, collection_id, user_id, group_name, role, access)
  SELECT v_tenant, v_collection.id, g."user", g."group", g.role, max(g.access)
  FROM jsonb_to_recordset(p_grants) AS g ("user" uuid, "group" text, role text, access text)
  GROUP BY g."user", g."group", g.role;
  PERFORM compliance.append(v_tenant, 'collection.shared', v_collection.id::text, jsonb_build_object('name', p_name, 'grants', p_grants));
  RETURN rag.list_grants(p_name);
END
$$;

COMMENT ON FUNCTION rag.share_collection(text, jsonb) IS
  'Makes these the grants of a collection that the current user manages, instead of those before: [{user, group or role, access: read or write}]. Returns rag.list_grants; '
  'raises not_found, forbidden.';
GRANT EXECUTE ON FUNCTION rag.share_collection(text, jsonb) TO app;
