-- requires: 008_ingestion_pipeline
-- The lock keeps whoever deletes the collection away until the document is in it.
CREATE OR REPLACE FUNCTION rag.collection_to_write(p_name text)
RETURNS uuid
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_id uuid;
BEGIN
  LOOP
    INSERT INTO rag.collections (tenant_id, name) VALUES (v_tenant, p_name) ON CONFLICT (tenant_id, name) DO NOTHING;
    SELECT c.id INTO v_id FROM rag.collections AS c WHERE c.tenant_id = v_tenant AND c.name = p_name FOR KEY SHARE;
    EXIT WHEN FOUND;
  END LOOP;
  IF NOT v_id = ANY (rag.readable_collections()) THEN
    PERFORM rag.raise_no_collection(p_name);
  ELSIF NOT v_id = ANY (rag.writable_collections()) THEN
    PERFORM ops.raise_problem('forbidden', format('You may read the collection %s, and not write to it.', p_name), jsonb_build_object('collection', p_name));
  END IF;
  RETURN v_id;
END
$$;

COMMENT ON FUNCTION rag.collection_to_write(text) IS
  'The id of a collection that the current user may write to, which is made for everybody if there is none. Raises not_found, forbidden. Internal.';
