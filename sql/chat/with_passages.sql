-- requires: 000_core
-- The passages go into the system message that is there, because the chat templates of many models take only one, and only first.
CREATE OR REPLACE FUNCTION chat.with_passages(p_messages jsonb, p_block text)
RETURNS jsonb
LANGUAGE sql IMMUTABLE
AS $$
  SELECT CASE
    WHEN p_block IS NULL THEN p_messages
    WHEN p_messages -> 0 ->> 'role' IN ('system', 'developer') AND jsonb_typeof(p_messages -> 0 -> 'content') = 'string' THEN
      jsonb_set(p_messages, '{0,content}', to_jsonb((p_messages -> 0 ->> 'content') || E'\n\n' || chat.passages_prompt(p_block)))
    WHEN p_messages -> 0 ->> 'role' IN ('system', 'developer') AND jsonb_typeof(p_messages -> 0 -> 'content') = 'array' THEN
      jsonb_set(p_messages, '{0,content}',
                (p_messages -> 0 -> 'content') || jsonb_build_array(jsonb_build_object('type', 'text', 'text', chat.passages_prompt(p_block))))
    ELSE jsonb_build_array(jsonb_build_object('role', 'system', 'content', chat.passages_prompt(p_block))) || p_messages
  END
$$;

COMMENT ON FUNCTION chat.with_passages(jsonb, text) IS 'A client''s messages with passages in their system message; without a block, as they are.';
GRANT EXECUTE ON FUNCTION chat.with_passages(jsonb, text) TO app;
