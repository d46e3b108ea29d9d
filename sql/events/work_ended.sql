-- requires: 000_core
CREATE OR REPLACE FUNCTION events.work_ended(p_type text, p_tenant_id uuid, p_data jsonb)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- PostgreSQL plans each of these when it is first asked: a table of a later revision is only missed by whom it concerns.
  CASE p_type
    WHEN 'com.enterprise-agents.inference.requested.v1' THEN
      RETURN NOT EXISTS (
        SELECT FROM inference.jobs AS j
        WHERE j.tenant_id = p_tenant_id AND j.id = (p_data ->> 'job_id')::uuid AND j.status IN ('queued', 'running'));
    WHEN 'com.enterprise-agents.ingestion.received.v1' THEN
      RETURN NOT EXISTS (
        SELECT FROM rag.documents AS d
        WHERE d.tenant_id = p_tenant_id AND d.id = (p_data ->> 'document_id')::uuid AND d.version = (p_data ->> 'version')::integer
          AND (d.status = 'received' OR (d.status = 'processing' AND d.stage <> 'embedding')));
    WHEN 'com.enterprise-agents.embedding.requested.v1' THEN
      RETURN NOT rag.wants_embeddings(p_tenant_id, (p_data ->> 'document_id')::uuid, (p_data ->> 'version')::integer);
    ELSE
      RETURN false;
  END CASE;
END
$$;

COMMENT ON FUNCTION events.work_ended(text, uuid, jsonb) IS
  'Whether an event asks for work that has ended: a job completed, failed or stopped, a document''s version that is extracted, or embedded, failed or replaced. Internal.';
