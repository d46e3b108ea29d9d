-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.pass_on_embeddings(p_event_source text, p_event_id text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  PERFORM rag.emit_embedding(v_tenant, q.document_id, q.version, 1)
  FROM (
    SELECT w.document_id, w.version FROM rag.embedding_queue AS w WHERE w.tenant_id = v_tenant AND w.status = 'waiting' LIMIT 1
  ) AS q;
  PERFORM events.mark_consumed('embedding', p_event_source, p_event_id);
END
$$;

COMMENT ON FUNCTION rag.pass_on_embeddings(text, text) IS 'Ends an embedding.requested whose time is over: another event asks for what is left of the tenant''s work.';
GRANT EXECUTE ON FUNCTION rag.pass_on_embeddings(text, text) TO app;
