-- requires: 004_agent_traces
CREATE OR REPLACE FUNCTION inference.attempt_ended(
  p_history jsonb, p_outcome text, p_at timestamptz, p_code text DEFAULT NULL, p_timings jsonb DEFAULT NULL
)
RETURNS jsonb
LANGUAGE sql STABLE
RETURN CASE
  WHEN p_history = '[]' OR p_history -> -1 ? 'outcome' THEN p_history
  ELSE jsonb_set(p_history, '{-1}', (p_history -> -1) || jsonb_strip_nulls(
    jsonb_build_object('outcome', p_outcome, 'ended_at', p_at, 'code', p_code, 'timings', p_timings)))
END;

COMMENT ON FUNCTION inference.attempt_ended(jsonb, text, timestamptz, text, jsonb) IS
  'A job''s history with the end of its last attempt; unchanged if there is none, or it has ended before. Internal.';
