-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.settle_documents(p_after jsonb, p_most integer)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_document record;
  v_last jsonb;
BEGIN
  PERFORM rag.hold_model();
  FOR v_document IN
    SELECT d.tenant_id, d.id
    FROM rag.documents AS d
    WHERE (d.tenant_id, d.id) > (coalesce((p_after ->> 'tenant_id')::uuid, '00000000-0000-0000-0000-000000000000'),
                                 coalesce((p_after ->> 'id')::uuid, '00000000-0000-0000-0000-000000000000'))
      AND ((d.stage = 'embedding' AND d.status IN ('processing', 'failed')) OR d.chunks_failed > 0 OR EXISTS (
        SELECT FROM rag.embedding_queue AS q WHERE q.tenant_id = d.tenant_id AND q.document_id = d.id AND q.status = 'failed'))
    ORDER BY d.tenant_id, d.id
    LIMIT p_most
  LOOP
    PERFORM rag.settle_document(v_document.tenant_id, v_document.id);
    v_last := jsonb_build_object('tenant_id', v_document.tenant_id, 'id', v_document.id);
  END LOOP;
  RETURN v_last;
END
$$;

COMMENT ON FUNCTION rag.settle_documents(jsonb, integer) IS
  'After a switch to another model: ends documents that have all its vectors, also those that had failed for want of the earlier one''s, and counts anew what has none. Up to p_most '
  'documents after {tenant_id, id}; returns the last one, NULL: there were none. For make reembed.';
