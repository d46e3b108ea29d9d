-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.put_collection(p_name text, p_description text DEFAULT NULL, p_visibility text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_collection rag.collections;
  v_created boolean;
BEGIN
  PERFORM core.require_operation('collections.update');
  INSERT INTO rag.collections (tenant_id, name, description, visibility, created_by)
  VALUES (v_tenant, p_name, coalesce(p_description, ''), coalesce(p_visibility, 'tenant'), core.require_user())
  ON CONFLICT (tenant_id, name) DO NOTHING
  RETURNING * INTO v_collection;
  v_created := FOUND;
  IF NOT v_created THEN
    v_collection := rag.collection_to_manage(p_name);
    UPDATE rag.collections AS c
    SET description = coalesce(p_description, c.description), visibility = coalesce(p_visibility, c.visibility)
    WHERE c.tenant_id = v_tenant AND c.id = v_collection.id
    RETURNING * INTO v_collection;
  END IF;
  -- Who may read it has changed with its visibility.
  PERFORM compliance.append(v_tenant, CASE WHEN v_created THEN 'collection.created' ELSE 'collection.changed' END, v_collection.id::text,
                            jsonb_build_object('name', p_name, 'visibility', v_collection.visibility));
  RETURN rag.collection_document(v_collection) || jsonb_build_object('created', v_created);
END
$$;

COMMENT ON FUNCTION rag.put_collection(text, text, text) IS
  'Makes a collection, which is then the current user''s to manage, or changes one; NULL leaves a property as it is. Returns rag.collection_document and created. Raises not_found, forbidden.';
GRANT EXECUTE ON FUNCTION rag.put_collection(text, text, text) TO app;
