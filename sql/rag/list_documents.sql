-- requires: 008_ingestion_pipeline
-- It runs with the caller's rights: whose documents are seen is the policy of rag.documents. A cursor is the place of a page's last
-- document, its collection and name, so that the next page begins there whatever has come or gone before it.
CREATE OR REPLACE FUNCTION rag.list_documents(
  p_collection text DEFAULT NULL, p_status text DEFAULT NULL, p_prefix text DEFAULT NULL, p_metadata jsonb DEFAULT NULL,
  p_cursor text DEFAULT NULL, p_limit integer DEFAULT 100
)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_collection uuid;
  v_after text[];
  v_found rag.documents[];
  v_last rag.documents;
BEGIN
  IF p_cursor IS NOT NULL THEN
    v_after := regexp_match(p_cursor, '^([^/]+)/(.+)$');
    IF v_after IS NULL THEN
      PERFORM ops.raise_problem('invalid_request', 'The cursor is none of this list.');
    END IF;
  END IF;
  IF p_collection IS NOT NULL THEN
    SELECT c.id INTO v_collection FROM rag.collections AS c WHERE c.tenant_id = v_tenant AND c.name = p_collection;
    -- An id that no collection has.
    v_collection := coalesce(v_collection, v_tenant);
  END IF;
  -- One more than asked for tells whether there is a next page.
  v_found := ARRAY(
    SELECT d
    FROM rag.documents AS d
    JOIN rag.collections AS c ON c.tenant_id = d.tenant_id AND c.id = d.collection_id
    WHERE d.tenant_id = v_tenant
      AND (v_collection IS NULL OR d.collection_id = v_collection)
      AND (p_status IS NULL OR d.status = p_status)
      AND (p_prefix IS NULL OR starts_with(d.name, p_prefix))
      AND (p_metadata IS NULL OR d.metadata @> p_metadata)
      AND (v_after IS NULL OR (c.name, d.name) > (v_after[1], v_after[2]))
    ORDER BY c.name, d.name
    LIMIT p_limit + 1);
  IF cardinality(v_found) > p_limit THEN
    v_last := v_found[p_limit];
  END IF;
  RETURN jsonb_build_object(
    'documents', (
      SELECT coalesce(jsonb_agg(rag.document_state(v_found[n]) ORDER BY n), '[]')
      FROM generate_series(1, least(cardinality(v_found), p_limit)) AS n),
    'next_cursor', (SELECT c.name || '/' || v_last.name FROM rag.collections AS c WHERE c.tenant_id = v_tenant AND c.id = v_last.collection_id),
    'counts', rag.count_documents(v_collection, p_prefix, p_metadata));
END
$$;

COMMENT ON FUNCTION rag.list_documents(text, text, text, jsonb, text, integer) IS
  'The documents that the current user may read, by collection and name: of one collection, with a status, whose names begin so, whose metadata hold these: '
  '{documents: [rag.document_state], next_cursor, counts}; next_cursor NULL: it was the last page; counts are of all pages and states. Raises invalid_request.';
GRANT EXECUTE ON FUNCTION rag.list_documents(text, text, text, jsonb, text, integer) TO app;
