-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.collection_to_manage(p_name text)
RETURNS rag.collections
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_collection rag.collections;
BEGIN
  SELECT * INTO v_collection FROM rag.collections AS c WHERE c.tenant_id = v_tenant AND c.name = p_name FOR UPDATE;
  IF NOT FOUND OR NOT v_collection.id = ANY (rag.readable_collections()) THEN
    PERFORM rag.raise_no_collection(p_name);
  ELSIF NOT (core.has_role('tenant_admin') OR v_collection.created_by = core.require_user() IS TRUE) THEN
    PERFORM ops.raise_problem('forbidden', format('Only who made the collection %s and the tenant''s administrators manage it.', p_name),
                              jsonb_build_object('collection', p_name));
  END IF;
  RETURN v_collection;
END
$$;

COMMENT ON FUNCTION rag.collection_to_manage(text) IS 'Locks and returns a collection that the current user manages. Raises not_found, forbidden. Internal.';
