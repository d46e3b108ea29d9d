-- requires: 012_budget_metrics
-- Before the first token only: nobody has seen anything of the answer. The next model is one that was considered when the turn began,
-- against which nothing stood, that has not opened its breaker since, and whose price what is held can pay. A request that names
-- its model gets that model or none.
CREATE OR REPLACE FUNCTION inference.fall_back(p_job_id uuid, p_worker text, p_attempt integer, p_code text, p_detail text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_job inference.jobs;
  v_turn chat.turns;
  v_next record;
BEGIN
  SELECT * INTO v_job
  FROM inference.jobs AS j
  WHERE j.tenant_id = v_tenant AND j.id = p_job_id AND j.status = 'running' AND j.leased_by = p_worker AND j.attempts = p_attempt
  FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('lease_lost', 'Another worker has taken the job over, or it has ended.', jsonb_build_object('job_id', p_job_id));
  END IF;
  SELECT * INTO STRICT v_turn FROM chat.turns AS t WHERE t.tenant_id = v_tenant AND t.id = v_job.turn_id;
  SELECT m.name, m.tier, m.input_price, m.output_price INTO v_next
  FROM jsonb_array_elements(v_turn.routing -> 'considered') WITH ORDINALITY AS c
  JOIN routing.models AS m ON m.name = c.value ->> 'model' AND m.enabled
  JOIN budget.reservations AS r ON r.tenant_id = v_tenant AND r.turn_id = v_turn.id
  LEFT JOIN routing.health AS h ON h.model = m.name
  WHERE v_turn.routing ->> 'requested' IN ('auto', 'light', 'standard', 'heavy')
    AND c.value ->> 'rejected' IS NULL
    AND m.name <> v_job.model
    AND NOT EXISTS (SELECT FROM jsonb_array_elements(v_turn.routing -> 'fallbacks') AS f WHERE f.value ->> 'from' = m.name)
    AND h.retry_at IS NULL
    AND coalesce(budget.cost(r.tokens - v_turn.max_tokens, v_turn.max_tokens, m.input_price, m.output_price), 0) <= r.cost_micros
  ORDER BY c.ordinality
  LIMIT 1;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  UPDATE inference.jobs AS j SET model = v_next.name, tier = v_next.tier
  WHERE j.tenant_id = v_tenant AND j.id = p_job_id
  RETURNING * INTO v_job;
  UPDATE chat.turns AS t
  SET model = v_next.name, tier = v_next.tier,
      routing = t.routing || jsonb_build_object(
        'model', v_next.name, 'tier', v_next.tier,
        'fallbacks', coalesce(t.routing -> 'fallbacks', '[]') || jsonb_build_object(
          'from', v_turn.model, 'to', v_next.name, 'code', p_code, 'detail', left(p_detail, 300), 'at', clock_timestamp()))
  WHERE t.tenant_id = v_tenant AND t.id = v_turn.id;
  -- What is held stays; what is charged is the price of the model that answers.
  UPDATE budget.reservations AS r SET model = v_next.name, input_price = v_next.input_price, output_price = v_next.output_price
  WHERE r.tenant_id = v_tenant AND r.turn_id = v_turn.id AND r.closed_at IS NULL;
  PERFORM routing.report(v_turn.model, false, NULL, p_code);
  RETURN inference.job_document(v_job, v_turn, chat.prompt(v_turn.id));
END
$$;

COMMENT ON FUNCTION inference.fall_back(uuid, text, integer, text, text) IS
  'Gives a job whose model failed before its first token to the next model, records why in the turn''s routing.fallbacks, and returns inference.job_document; NULL: there is no next '
  'one. Raises lease_lost.';
GRANT EXECUTE ON FUNCTION inference.fall_back(uuid, text, integer, text, text) TO app;
