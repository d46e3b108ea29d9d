-- requires: 000_core
CREATE OR REPLACE FUNCTION chat.question_of(p_messages jsonb)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE jsonb_typeof(m.value -> 'content')
    WHEN 'string' THEN m.value ->> 'content'
    WHEN 'array' THEN (
      SELECT string_agg(part.value ->> 'text', E'\n' ORDER BY part.ordinality)
      FROM jsonb_array_elements(m.value -> 'content') WITH ORDINALITY AS part
      WHERE part.value ->> 'type' = 'text')
  END
  FROM jsonb_array_elements(p_messages) WITH ORDINALITY AS m
  WHERE m.value ->> 'role' = 'user'
  ORDER BY m.ordinality DESC
  LIMIT 1
$$;

COMMENT ON FUNCTION chat.question_of(jsonb) IS 'The text of the last message of a user, of [{role, content}] in the shape of the OpenAI API: what is routed and searched by.';
GRANT EXECUTE ON FUNCTION chat.question_of(jsonb) TO app;
