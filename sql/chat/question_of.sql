-- requires: 000_core
CREATE OR REPLACE FUNCTION chat.question_of(p_messages jsonb)
RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
  v_content jsonb;
BEGIN
  -- As a rule it is the last message, so that the others are not looked at.
  FOR v_at IN REVERSE jsonb_array_length(p_messages) - 1..0 LOOP
    CONTINUE WHEN p_messages -> v_at ->> 'role' IS DISTINCT FROM 'user';
    v_content := p_messages -> v_at -> 'content';
    IF jsonb_typeof(v_content) = 'array' THEN
      RETURN (
        SELECT string_agg(part.value ->> 'text', E'\n' ORDER BY part.ordinality)
        FROM jsonb_array_elements(v_content) WITH ORDINALITY AS part
        WHERE part.value ->> 'type' = 'text');
    END IF;
    RETURN CASE jsonb_typeof(v_content) WHEN 'string' THEN v_content #>> '{}' END;
  END LOOP;
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION chat.question_of(jsonb) IS 'The text of the last message of a user, of [{role, content}] in the shape of the OpenAI API: what is routed and searched by.';
GRANT EXECUTE ON FUNCTION chat.question_of(jsonb) TO app;
