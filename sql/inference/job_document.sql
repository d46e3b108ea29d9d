-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION inference.job_document(p_job inference.jobs, p_turn chat.turns, p_prompt jsonb)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'job_id', p_job.id, 'turn_id', p_job.turn_id, 'attempt', p_job.attempts, 'model', p_job.model, 'tier', p_job.tier,
    'endpoint', (SELECT m.endpoint FROM routing.models AS m WHERE m.name = p_job.model),
    'max_tokens', p_turn.max_tokens, 'parameters', coalesce(p_turn.request -> 'parameters', '{}'), 'messages', p_prompt)
$$;

COMMENT ON FUNCTION inference.job_document(inference.jobs, chat.turns, jsonb) IS
  'What whoever generates an answer needs: {job_id, turn_id, attempt, model, tier, endpoint, max_tokens, parameters, messages}. Internal.';
