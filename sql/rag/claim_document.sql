-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.claim_document(p_document_id uuid, p_version integer, p_worker text, p_lease interval)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_document rag.documents;
BEGIN
  SELECT * INTO v_document
  FROM rag.documents AS d
  WHERE d.tenant_id = v_tenant AND d.id = p_document_id
  FOR UPDATE;
  IF NOT FOUND OR v_document.version <> p_version OR v_document.status IN ('indexed', 'failed')
    OR (v_document.status = 'processing' AND v_document.stage = 'embedding') THEN
    RETURN jsonb_build_object('outcome', 'done');
  END IF;
  IF v_document.status = 'processing' AND v_document.leased_until > clock_timestamp() THEN
    RETURN jsonb_build_object('outcome', 'busy');
  END IF;
  IF v_document.attempts >= v_document.max_attempts THEN
    RETURN jsonb_build_object('outcome', 'exhausted');
  END IF;
  UPDATE rag.documents AS d
  SET status = 'processing', stage = 'extracting', chunks_total = 0, chunks_embedded = 0, chunks_failed = 0, attempts = d.attempts + 1, leased_by = p_worker,
      leased_until = clock_timestamp() + p_lease, updated_at = now()
  WHERE d.tenant_id = v_tenant AND d.id = p_document_id;
  RETURN jsonb_build_object('outcome', 'claimed', 'media_type', v_document.media_type, 'name', v_document.name,
                            'last_attempt', v_document.attempts + 1 = v_document.max_attempts);
END
$$;

COMMENT ON FUNCTION rag.claim_document(uuid, integer, text, interval) IS
  'Leases the indexing of a document''s version: {outcome: claimed, media_type, name, last_attempt}; or busy (leased elsewhere), done (nothing left to do before the embedding), exhausted (the '
  'sweeper ends it).';
GRANT EXECUTE ON FUNCTION rag.claim_document(uuid, integer, text, interval) TO app;
