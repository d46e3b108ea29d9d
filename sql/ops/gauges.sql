-- requires: 008_ingestion_pipeline
-- Asked once a minute by the sweeper. Whatever may be large is read through an index, and counted up to a limit only: in an outage
-- the outbox or the queue of embeddings may hold millions.
CREATE OR REPLACE FUNCTION ops.gauges()
RETURNS TABLE (name text, labels jsonb, value double precision, meaning text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- The tables are empty one moment and large the next: the plans must not depend on when they were made.
SET enable_seqscan = off
SET enable_sort = off
AS $$
  SELECT 'enterprise_agent_outbox_events', '{}'::jsonb, count(*)::double precision, 'Events that no broker has accepted yet; counted up to 100000'
  FROM (SELECT FROM events.outbox LIMIT 100000) AS o
  UNION ALL
  SELECT 'enterprise_agent_outbox_lag_seconds', '{}', coalesce(extract(epoch FROM clock_timestamp() - least(
      (SELECT o.available_at FROM events.outbox AS o
       WHERE NOT o.ordered AND o.leased_until <= now() AND o.available_at <= now() ORDER BY o.available_at, o.seq LIMIT 1),
      (SELECT o.available_at FROM events.outbox AS o
       WHERE o.ordered AND o.leased_until <= now() AND o.available_at <= now() ORDER BY o.available_at, o.seq LIMIT 1))), 0),
    'How long an event has been due that no relay has taken'
  UNION ALL
  SELECT 'enterprise_agent_dead_letters', '{}', count(*), 'Events and jobs that were given up, until somebody replays or deletes them; counted up to 100000'
  FROM (SELECT FROM events.dead_letters LIMIT 100000) AS d
  UNION ALL
  SELECT 'enterprise_agent_jobs', jsonb_build_object('tier', t.tier, 'status', s.status), count(j.tier), 'Answers that are asked for: queued or running'
  FROM unnest(ARRAY['light', 'standard', 'heavy']) AS t (tier)
  CROSS JOIN unnest(ARRAY['queued', 'running']) AS s (status)
  LEFT JOIN inference.jobs AS j ON j.status IN ('queued', 'running') AND j.tier = t.tier AND j.status = s.status
  GROUP BY t.tier, s.status
  UNION ALL
  SELECT 'enterprise_agent_jobs_oldest_seconds', jsonb_build_object('tier', t.tier),
    coalesce(extract(epoch FROM clock_timestamp() - min(j.created_at)), 0), 'How long the oldest answer that nobody generates has been asked for'
  FROM unnest(ARRAY['light', 'standard', 'heavy']) AS t (tier)
  LEFT JOIN inference.jobs AS j ON j.status IN ('queued', 'running') AND j.status = 'queued' AND j.tier = t.tier
  GROUP BY t.tier
  UNION ALL
  SELECT 'enterprise_agent_documents', jsonb_build_object('status', s.status), count(d.status), 'Documents on their way to be found: received or processing'
  FROM unnest(ARRAY['received', 'processing']) AS s (status)
  LEFT JOIN rag.documents AS d ON d.status IN ('received', 'processing') AND d.status = s.status
  GROUP BY s.status
  UNION ALL
  SELECT g.name, jsonb_build_object('purpose', g.purpose), g.value, g.meaning FROM ops.embedding_gauges() AS g
  UNION ALL
  SELECT 'enterprise_agent_model_available', jsonb_build_object('model', m.name, 'tier', m.tier), (coalesce(h.state, 'closed') = 'closed')::integer,
    '1: the model is asked; 0: its breaker is open, or tries whether it answers again'
  FROM routing.models AS m LEFT JOIN routing.health AS h ON h.model = m.name
  WHERE m.enabled
  UNION ALL
  SELECT 'enterprise_agent_model_first_token_seconds', jsonb_build_object('model', m.name, 'tier', m.tier), h.latency_ms / 1000,
    'Moving average of the time to the first token'
  FROM routing.models AS m JOIN routing.health AS h ON h.model = m.name
  WHERE m.enabled AND h.latency_ms IS NOT NULL
$$;

COMMENT ON FUNCTION ops.gauges() IS
  'What the database knows of the platform''s state over all tenants, as metrics of Prometheus: name, {"label": "value"}, value, and what it means. The sweeper exports them.';
GRANT EXECUTE ON FUNCTION ops.gauges() TO app, dba_readonly;
