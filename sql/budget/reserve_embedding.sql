-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.reserve_embedding(p_texts text[], p_model text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_id uuid := gen_random_uuid();
  v_tokens bigint;
BEGIN
  PERFORM core.require_operation('embeddings.create'), core.require_tenant();
  SELECT sum(budget.estimate_tokens(t.body) + 2) INTO v_tokens FROM unnest(p_texts) AS t (body);
  -- Its request takes a minute at most: what a dead process held is free soon.
  RETURN jsonb_build_object('id', v_id, 'tokens', budget.reserve(v_id, v_tokens, 0, p_model, interval '10 minutes'));
END
$$;

COMMENT ON FUNCTION budget.reserve_embedding(text[], text) IS
  'Holds the tokens of texts that are embedded for a client: {id, tokens}. Raises budget_exceeded, budget_paused.';
GRANT EXECUTE ON FUNCTION budget.reserve_embedding(text[], text) TO app;
