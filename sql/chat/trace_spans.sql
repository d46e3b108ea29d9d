-- requires: 012_budget_metrics
-- It runs with the caller's rights, and takes the tenant so that the primary keys serve a database administrator too.
-- A moment that nobody wrote follows from its neighbours: a turn waits for a worker from its decision on, or from the end of the attempt before.
CREATE OR REPLACE FUNCTION chat.trace_spans(p_tenant_id uuid, p_turn_id uuid)
RETURNS TABLE (name text, started_at timestamptz, duration_ms double precision, attempt integer, attributes jsonb)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH turn AS (
    SELECT t.*, j.status AS job_status, j.history, j.max_attempts,
      (t.timings ->> 'retrieval_at')::timestamptz AS retrieval_at, (t.timings ->> 'routing_at')::timestamptz AS routing_at,
      coalesce((t.timings ->> 'decided_at')::timestamptz, t.created_at) AS decided_at
    FROM chat.turns AS t
    LEFT JOIN inference.jobs AS j ON j.tenant_id = t.tenant_id AND j.turn_id = t.id
    WHERE t.tenant_id = p_tenant_id AND t.id = p_turn_id
  ), tried AS (
    SELECT h.ordinality::integer AS number, h.value AS record,
      (h.value ->> 'claimed_at')::timestamptz AS begun, (h.value ->> 'ended_at')::timestamptz AS ended,
      (h.value #>> '{timings,asked}')::double precision * interval '1 ms' AS asked,
      (h.value #>> '{timings,first_token}')::double precision * interval '1 ms' AS first_token,
      (h.value #>> '{timings,last_token}')::double precision * interval '1 ms' AS last_token,
      h.ordinality = jsonb_array_length(turn.history) AS last
    FROM turn CROSS JOIN jsonb_array_elements(turn.history) WITH ORDINALITY AS h
  ), before AS (
    SELECT s.position, s.name, turn.created_at, (turn.timings ->> s.name)::double precision * interval '1 ms' AS duration
    FROM turn CROSS JOIN (VALUES (1, 'auth'), (2, 'rate_limit'), (3, 'embedding')) AS s (position, name)
    WHERE turn.timings ? s.name
  ), span (position, name, started_at, ended_at, attempt, attributes) AS (
    SELECT b.position, b.name, b.created_at - sum(b.duration) OVER following, b.created_at - sum(b.duration) OVER following + b.duration,
      NULL::integer, '{}'::jsonb
    FROM before AS b
    WINDOW following AS (ORDER BY b.position ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
    UNION ALL
    SELECT 4, 'begin_turn', turn.created_at, turn.decided_at, NULL, '{}'
    FROM turn
    UNION ALL
    SELECT 5, 'retrieval', turn.retrieval_at, turn.routing_at, NULL,
      turn.retrieval || jsonb_build_object('passages', (
        SELECT count(*) FROM chat.passages AS p WHERE p.tenant_id = turn.tenant_id AND p.turn_id = turn.id))
    FROM turn
    WHERE turn.retrieval_at IS NOT NULL
    UNION ALL
    SELECT 6, 'routing', turn.routing_at, turn.decided_at, NULL, jsonb_build_object('rule', turn.routing -> 'rule', 'model', turn.routing -> 'model')
    FROM turn
    WHERE turn.routing_at IS NOT NULL
    UNION ALL
    SELECT 7, 'queue', coalesce(lag(a.ended) OVER (ORDER BY a.number), turn.decided_at), a.begun, a.number,
      jsonb_build_object('emitted_at', a.record -> 'emitted_at')
    FROM turn CROSS JOIN tried AS a
    -- Who generates the answer itself waits for nobody.
    WHERE a.record ->> 'emitted_at' IS NOT NULL
    UNION ALL
    SELECT 7, 'queue', coalesce((SELECT max(a.ended) FROM tried AS a), turn.decided_at), turn.finished_at, jsonb_array_length(turn.history) + 1, '{}'
    FROM turn
    WHERE turn.job_status = 'queued'
    UNION ALL
    SELECT 8, 'attempt', a.begun, a.ended, a.number, a.record - '{emitted_at,claimed_at,ended_at,timings}'::text[]
    FROM tried AS a
    UNION ALL
    SELECT 9, 'fallback', (f.value ->> 'at')::timestamptz, (f.value ->> 'at')::timestamptz,
      (SELECT max(a.number) FROM tried AS a WHERE a.begun <= (f.value ->> 'at')::timestamptz), f.value - 'at'
    FROM turn CROSS JOIN jsonb_array_elements(turn.routing -> 'fallbacks') AS f
    UNION ALL
    SELECT 10, 'first_token', a.begun + a.asked, a.begun + a.first_token, a.number, '{}'
    FROM tried AS a
    WHERE a.first_token IS NOT NULL
    UNION ALL
    SELECT 11, 'tokens', a.begun + a.first_token, a.begun + a.last_token, a.number,
      CASE WHEN NOT a.last THEN '{}' ELSE jsonb_build_object(
        'tokens', turn.completion_tokens,
        'tokens_per_second', round((turn.completion_tokens / nullif(extract(epoch FROM a.last_token - a.first_token), 0))::numeric, 1)) END
    FROM turn CROSS JOIN tried AS a
    WHERE a.first_token IS NOT NULL
    UNION ALL
    SELECT 12, 'complete', coalesce(a.begun + a.last_token, turn.finished_at), turn.finished_at, a.number,
      jsonb_strip_nulls(jsonb_build_object('status', turn.status, 'finish_reason', turn.finish_reason, 'code', turn.error_code))
    FROM turn
    LEFT JOIN tried AS a ON a.last
    WHERE turn.finished_at IS NOT NULL
  )
  SELECT s.name, s.started_at, round(extract(epoch FROM s.ended_at - s.started_at) * 1000, 3)::double precision, s.attempt, s.attributes
  FROM span AS s
  ORDER BY s.started_at, s.position
$$;

COMMENT ON FUNCTION chat.trace_spans(uuid, uuid) IS
  'What a turn spent its time on, in order: auth, rate_limit, embedding, begin_turn with retrieval and routing; for each attempt queue, attempt, fallback, first_token and tokens; '
  'complete. duration_ms is NULL while it lasts. For every turn of a day: chat.turns AS t CROSS JOIN LATERAL chat.trace_spans(t.tenant_id, t.id).';
GRANT EXECUTE ON FUNCTION chat.trace_spans(uuid, uuid) TO app, dba_readonly;
