-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION rag.milliseconds_since(p_moment timestamptz)
RETURNS numeric
LANGUAGE sql VOLATILE
AS $$
  SELECT round(extract(epoch FROM clock_timestamp() - p_moment) * 1000, 3)
$$;

COMMENT ON FUNCTION rag.milliseconds_since(timestamptz) IS 'How long ago a moment was. Internal.';
