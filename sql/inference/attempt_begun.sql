-- requires: 004_agent_traces
CREATE OR REPLACE FUNCTION inference.attempt_begun(p_history jsonb, p_worker text, p_model text, p_emitted_at timestamptz)
RETURNS jsonb
LANGUAGE sql
RETURN p_history || jsonb_build_object('worker', p_worker, 'model', p_model, 'emitted_at', p_emitted_at, 'claimed_at', clock_timestamp());

COMMENT ON FUNCTION inference.attempt_begun(jsonb, text, text, timestamptz) IS 'A job''s history with an attempt that begins now. Internal.';
