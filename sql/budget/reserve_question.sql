-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.reserve_question(p_question text)
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- So much of a question is embedded (MAX_QUESTION_CHARS in shared/embeddings.py).
  c_chars constant integer := 8000;
  v_id uuid := gen_random_uuid();
  v_model jsonb := rag.active_model();
BEGIN
  PERFORM core.require_tenant();
  -- Its request takes seconds: what a dead process held is free soon.
  PERFORM budget.reserve(v_id, budget.estimate_tokens(left(p_question, c_chars)) + 2, 0, v_model ->> 'name', interval '10 minutes');
  RETURN jsonb_build_object('held', v_id, 'model', v_model);
END
$$;

COMMENT ON FUNCTION budget.reserve_question(text) IS
  'Holds the tokens of a question that is embedded for a search: {held, model}, the reservation and rag.active_model, by which it is to be embedded. Raises budget_exceeded, '
  'budget_paused.';
GRANT EXECUTE ON FUNCTION budget.reserve_question(text) TO app;
