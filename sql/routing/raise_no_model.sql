-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.raise_no_model(p_wanted text, p_considered jsonb)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_retry timestamptz;
BEGIN
  SELECT min(h.retry_at) INTO v_retry
  FROM jsonb_array_elements(p_considered) AS c
  JOIN routing.health AS h ON h.model = c.value ->> 'model'
  WHERE c.value ->> 'rejected' = 'health';
  IF v_retry IS NOT NULL THEN
    PERFORM ops.raise_problem('no_healthy_model', 'Every model that could answer is failing just now.',
                              jsonb_build_object('wanted', p_wanted, 'considered', p_considered, 'retry_at', v_retry));
  END IF;
  PERFORM ops.raise_problem(
    'no_model',
    CASE WHEN p_considered IS NULL THEN format('There is no model or tier named %s.', p_wanted)
         ELSE format('No model can answer: %s.', (SELECT string_agg(format('%s: %s', c.value ->> 'model', c.value ->> 'why'), '; ')
                                                   FROM jsonb_array_elements(p_considered) AS c)) END,
    jsonb_build_object('wanted', p_wanted, 'considered', coalesce(p_considered, '[]')));
END
$$;

COMMENT ON FUNCTION routing.raise_no_model(text, jsonb) IS 'Raises no_healthy_model when only the health of a model stands in the way, else no_model with what was considered.';
GRANT EXECUTE ON FUNCTION routing.raise_no_model(text, jsonb) TO app, dba_readonly;
