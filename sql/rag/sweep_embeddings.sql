-- requires: 016_regions
-- Nothing is asked for a tenant that has moved away: nobody takes its events (core.enter_function).
CREATE OR REPLACE FUNCTION rag.sweep_embeddings()
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_waiting constant interval := '1 minute';
  v_tenant record;
  v_document record;
  v_count integer := 0;
BEGIN
  PERFORM rag.clear_queue();
  -- One event for each tenant with a chunk that nobody has taken for a while. Where a worker is busy with others of the tenant
  -- the event costs little; where none is, it brings one.
  FOR v_tenant IN
    WITH RECURSIVE waiting AS (
      (SELECT q.tenant_id FROM rag.embedding_queue AS q WHERE q.status = 'waiting' ORDER BY q.tenant_id LIMIT 1)
      UNION ALL
      SELECT (SELECT q.tenant_id FROM rag.embedding_queue AS q WHERE q.status = 'waiting' AND q.tenant_id > w.tenant_id ORDER BY q.tenant_id LIMIT 1)
      FROM waiting AS w
      WHERE w.tenant_id IS NOT NULL
    )
    SELECT w.tenant_id, oldest.document_id, oldest.version
    FROM waiting AS w
    CROSS JOIN LATERAL (
      SELECT q.document_id, q.version
      FROM rag.embedding_queue AS q
      WHERE q.tenant_id = w.tenant_id AND q.status = 'waiting'
        AND greatest(q.due_at, least(q.turn_at, now())) < clock_timestamp() - c_waiting
      LIMIT 1
    ) AS oldest
    WHERE NOT EXISTS (SELECT FROM core.tenant_homes AS h WHERE h.tenant_id = w.tenant_id AND h.region <> (SELECT core.own_region()))
  LOOP
    PERFORM rag.emit_embedding(v_tenant.tenant_id, v_tenant.document_id, v_tenant.version, 1);
    v_count := v_count + 1;
  END LOOP;
  -- Where the last chunk that waited went otherwise than by a vector: deleted by hand, or when the model was switched.
  FOR v_document IN
    SELECT d.tenant_id, d.id
    FROM rag.documents AS d
    WHERE d.status = 'processing' AND d.stage = 'embedding' AND d.updated_at < now() - c_waiting
      AND NOT EXISTS (SELECT FROM core.tenant_homes AS h WHERE h.tenant_id = d.tenant_id AND h.region <> (SELECT core.own_region()))
      AND NOT EXISTS (
        SELECT FROM rag.embedding_queue AS q
        JOIN rag.embedding_models AS m ON m.id = q.model_id AND m.status = 'active'
        WHERE q.tenant_id = d.tenant_id AND q.document_id = d.id AND q.status = 'waiting')
    ORDER BY d.tenant_id, d.id
    LIMIT 100
  LOOP
    v_count := v_count + (rag.finish_document(v_document.tenant_id, v_document.id) IS NOT NULL)::integer;
  END LOOP;
  RETURN v_count;
END
$$;

COMMENT ON FUNCTION rag.sweep_embeddings() IS
  'Asks again, for all tenants at home here, for vectors whose worker died or whose event was lost, and ends documents for which nothing is left to wait for. Returns how many of both.';
GRANT EXECUTE ON FUNCTION rag.sweep_embeddings() TO app;
