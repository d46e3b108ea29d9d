-- requires: 014_model_aliases
-- Requests of the OpenAI API that one user made at the same moment, in one transaction: what a commit, a round trip and a statement
-- cost is paid once for all. It is for what most of them are, a request that names no alias, and that nothing stands against; what
-- is more than that, or cannot be decided together, its caller begins by chat.begin_completion, which decides alike.
CREATE OR REPLACE FUNCTION chat.begin_completions(p_requests jsonb, p_worker text, p_lease interval)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.require_user();
  v_key uuid := core.current_api_key_id();
  v_begun timestamptz := clock_timestamp();
  v_day date;
  v_month date;
  v_turns uuid[];
  v_tokens bigint;
  v_cost bigint;
  v_answers jsonb;
BEGIN
  SELECT p.day, p.month INTO v_day, v_month FROM budget.periods(v_tenant) AS p;
  IF budget.is_paused() THEN
    PERFORM budget.refuse_paused(ARRAY(SELECT a FROM budget.applicable(v_tenant, v_user, v_key) AS a));
  END IF;

  WITH decided AS MATERIALIZED (
    SELECT a.number - 1 AS n, a.turn_id, a.job_id, a.request, a.max_tokens, a.traceparent, a.timings, c.choice, m.name AS model, m.tier, m.endpoint,
      m.input_price, m.output_price, a.prompt_tokens + a.max_tokens AS tokens,
      budget.cost(a.prompt_tokens, a.max_tokens, m.input_price, m.output_price) AS cost_micros, clock_timestamp() AS at
    FROM (
      SELECT r.*, gen_random_uuid() AS turn_id, gen_random_uuid() AS job_id,
        budget.estimate_prompt(r.request -> 'messages') + budget.estimate_tokens((r.request -> 'parameters')::text) AS prompt_tokens
      FROM ROWS FROM (
        jsonb_to_recordset(p_requests) AS (request jsonb, model text, max_tokens integer, traceparent text, timings jsonb)
      ) WITH ORDINALITY AS r (request, model, max_tokens, traceparent, timings, number)
      WHERE (SELECT a.name FROM routing.aliases AS a WHERE a.tenant_id = v_tenant AND a.name = r.model) IS NULL
      OFFSET 0
    ) AS a
    CROSS JOIN LATERAL (
      SELECT routing.choose(
        left(coalesce(chat.question_of(a.request -> 'messages'), ''), 100000), a.model, a.prompt_tokens, a.max_tokens,
        coalesce(jsonb_array_length(a.request #> '{parameters,tools}'), 0), 0, chat.history_chars(a.request -> 'messages')) AS choice
      OFFSET 0
    ) AS c
    CROSS JOIN LATERAL (SELECT m.* FROM routing.models AS m WHERE m.name = c.choice ->> 'model' OFFSET 0) AS m
    -- One that is on trial is tried by one turn at a time.
    WHERE (SELECT h.retry_at FROM routing.health AS h WHERE h.model = m.name) IS NULL
  ), turn AS (
    INSERT INTO chat.turns (tenant_id, id, user_id, request_sha256, retrieval, max_tokens, request, model, tier, routing, status, started_at, timings)
    SELECT v_tenant, d.turn_id, v_user, '', '{"mode": "none"}', d.max_tokens, d.request, d.model, d.tier, d.choice, 'running', d.at,
      coalesce(d.timings, '{}') || jsonb_build_object('routing_at', v_begun, 'decided_at', d.at)
    FROM decided AS d
  ), job AS (
    INSERT INTO inference.jobs (tenant_id, id, turn_id, tier, model, traceparent, status, attempts, leased_by, leased_until, history)
    SELECT v_tenant, d.job_id, d.turn_id, d.tier, d.model, d.traceparent, 'running', 1, p_worker, clock_timestamp() + p_lease,
      inference.attempt_begun('[]', p_worker, d.model, NULL)
    FROM decided AS d
  ), reservation AS (
    INSERT INTO budget.reservations (tenant_id, turn_id, user_id, api_key_id, model, input_price, output_price, day, month, tokens, cost_micros, expires_at)
    SELECT v_tenant, d.turn_id, v_user, v_key, d.model, d.input_price, d.output_price, v_day, v_month, d.tokens, d.cost_micros,
      clock_timestamp() + interval '2 hours'
    FROM decided AS d
  ), ledger AS (
    INSERT INTO budget.ledger (tenant_id, turn_id, user_id, api_key_id, model, entry, tokens, cost_micros, day, month)
    SELECT v_tenant, d.turn_id, v_user, v_key, d.model, 'reserve', d.tokens, d.cost_micros, v_day, v_month
    FROM decided AS d
  )
  SELECT array_agg(d.turn_id), sum(d.tokens), sum(d.cost_micros), jsonb_object_agg(d.n, jsonb_build_object(
      'turn_id', d.turn_id, 'model', d.model, 'tier', d.tier, 'created_at', now(), 'replayed', false, 'reserved_tokens', d.tokens,
      'job', jsonb_build_object(
        'job_id', d.job_id, 'turn_id', d.turn_id, 'attempt', 1, 'model', d.model, 'tier', d.tier, 'endpoint', d.endpoint,
        'max_tokens', d.max_tokens, 'parameters', d.request -> 'parameters', 'messages', NULL)))
  INTO v_turns, v_tokens, v_cost, v_answers
  FROM decided AS d;

  -- After the first lock comes nothing but the bookings, as in budget.reserve.
  IF v_turns IS NOT NULL THEN
    PERFORM budget.book(v_turns, v_day, v_month, v_tokens, v_cost);
  END IF;
  RETURN coalesce(v_answers, '{}');
END
$$;

COMMENT ON FUNCTION chat.begin_completions(jsonb, text, interval) IS
  'Accepts requests of the OpenAI API of the current user, [{request: {messages, parameters}, model, max_tokens, traceparent, timings}], for p_worker, all or none: '
  '{number from 0: as chat.begin_completion}, without those that it must decide by itself. Raises what that does, where it stands against one of them or against their sum.';
GRANT EXECUTE ON FUNCTION chat.begin_completions(jsonb, text, interval) TO app;
