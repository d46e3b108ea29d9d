-- requires: 000_core
CREATE OR REPLACE FUNCTION chat.history_chars(p_messages jsonb)
RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT coalesce(sum(length(m.value ->> 'content')), 0)::integer
  FROM jsonb_array_elements(p_messages) WITH ORDINALITY AS m
  WHERE m.ordinality <> jsonb_array_length(p_messages) AND m.value ->> 'role' <> 'system'
$$;

COMMENT ON FUNCTION chat.history_chars(jsonb) IS 'How many characters of conversation a prompt, [{role, content}], has before its last message. Internal.';
