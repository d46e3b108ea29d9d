-- requires: 008_ingestion_pipeline
-- The index of the queue begins with the tenant: its tenants are found one after the other, and of each the chunk whose turn is first.
CREATE OR REPLACE FUNCTION ops.embedding_gauges()
RETURNS TABLE (name text, purpose text, value double precision, meaning text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
  WITH RECURSIVE waiting AS (
    (SELECT q.tenant_id, q.model_id FROM rag.embedding_queue AS q WHERE q.status = 'waiting' ORDER BY q.tenant_id, q.model_id LIMIT 1)
    UNION ALL
    SELECT n.tenant_id, n.model_id
    FROM waiting AS w
    CROSS JOIN LATERAL (
      SELECT q.tenant_id, q.model_id
      FROM rag.embedding_queue AS q
      WHERE q.status = 'waiting' AND (q.tenant_id, q.model_id) > (w.tenant_id, w.model_id)
      ORDER BY q.tenant_id, q.model_id
      LIMIT 1) AS n
  ), oldest AS (
    SELECT w.model_id, min(f.turn_at) AS turn_at
    FROM waiting AS w
    CROSS JOIN LATERAL (
      SELECT q.turn_at FROM rag.embedding_queue AS q
      WHERE q.tenant_id = w.tenant_id AND q.model_id = w.model_id AND q.status = 'waiting'
      ORDER BY q.turn_at
      LIMIT 1) AS f
    GROUP BY w.model_id
  ), counted AS (
    SELECT q.model_id, count(*) AS chunks
    FROM (SELECT e.model_id FROM rag.embedding_queue AS e WHERE e.status = 'waiting' LIMIT 100000) AS q
    GROUP BY q.model_id
  ), purposes (purpose, status) AS (VALUES ('index', 'active'), ('reembed', 'building'))
  SELECT 'enterprise_agent_embedding_queue_chunks', p.purpose, coalesce(sum(c.chunks), 0)::double precision,
    'Chunks that wait for a vector; counted up to 100000 for both purposes together'
  FROM purposes AS p
  LEFT JOIN rag.embedding_models AS m ON m.status = p.status
  LEFT JOIN counted AS c ON c.model_id = m.id
  GROUP BY p.purpose
  UNION ALL
  SELECT 'enterprise_agent_embedding_queue_oldest_seconds', p.purpose,
    greatest(0, coalesce(extract(epoch FROM clock_timestamp() - min(o.turn_at)), 0)),
    'How long the chunk has waited for a vector whose turn it is'
  FROM purposes AS p
  LEFT JOIN rag.embedding_models AS m ON m.status = p.status
  LEFT JOIN oldest AS o ON o.model_id = m.id
  GROUP BY p.purpose
$$;

COMMENT ON FUNCTION ops.embedding_gauges() IS
  'The part of ops.gauges() that tells of the queue of embeddings: for documents that are indexed (index), and for vectors by another model (reembed). Internal.';
