-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION chat.prompt(p_turn_id uuid)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH RECURSIVE turn AS (
    SELECT t.tenant_id, t.request, q.content AS question, q.parent_id
    FROM chat.turns AS t
    LEFT JOIN chat.messages AS q ON q.tenant_id = t.tenant_id AND q.id = t.question_id
    WHERE t.tenant_id = core.require_tenant() AND t.id = p_turn_id
  ), passages AS (
    SELECT string_agg(
      format(E'[%s] %s%s\n%s', p.ordinal, regexp_replace(p.document_name, '\s+', ' ', 'g'),
             coalesce(' > ' || nullif(regexp_replace(p.heading, '\s+', ' ', 'g'), ''), ''), p.context_before || p.content || p.context_after),
      E'\n\n' ORDER BY p.ordinal) AS block
    FROM turn
    JOIN chat.passages AS p ON p.tenant_id = turn.tenant_id AND p.turn_id = p_turn_id
  ), branch AS (
    -- From the question upwards, as many whole exchanges as fit into 12,000 characters. A branch does not change once it has been
    -- asked on: every attempt sees the same prompt. What was stopped before its first word is left out, because a question
    -- without its answer is refused by the chat templates of many models.
    SELECT 0::bigint AS distance, turn.tenant_id, turn.parent_id, ''::text AS question, ''::text AS answer, 0::bigint AS chars
    FROM turn
    UNION ALL
    SELECT b.distance + 1, b.tenant_id, q.parent_id, q.content, a.content,
      b.chars + CASE a.content WHEN '' THEN 0 ELSE length(q.content) + length(a.content) END
    FROM branch AS b
    JOIN chat.messages AS a ON a.tenant_id = b.tenant_id AND a.id = b.parent_id
    JOIN chat.messages AS q ON q.tenant_id = a.tenant_id AND q.id = a.parent_id
    WHERE b.chars + CASE a.content WHEN '' THEN 0 ELSE length(q.content) + length(a.content) END <= 12000
  ), history AS (
    SELECT jsonb_agg(message.line ORDER BY b.distance DESC, message.number) AS lines
    FROM branch AS b
    CROSS JOIN LATERAL (VALUES
      (1, jsonb_build_object('role', 'user', 'content', b.question)),
      (2, jsonb_build_object('role', 'assistant', 'content', b.answer))
    ) AS message (number, line)
    WHERE b.answer <> ''
  )
  SELECT CASE
    WHEN turn.request IS NOT NULL THEN chat.with_passages(turn.request -> 'messages', passages.block)
    ELSE jsonb_build_array(jsonb_build_object('role', 'system', 'content', concat_ws(E'\n\n',
        'You answer questions of people at work from the documents of their organisation. Answer in the language of the question, briefly and exactly.',
        CASE WHEN passages.block IS NULL
          THEN 'No passage was found for this question. Say so, and do not cite anything.'
          ELSE chat.passages_prompt(passages.block)
        END)))
      || coalesce(history.lines, '[]')
      || jsonb_build_array(jsonb_build_object('role', 'user', 'content', turn.question))
    END
  FROM turn CROSS JOIN passages CROSS JOIN history
$$;

COMMENT ON FUNCTION chat.prompt(uuid) IS
  'What the model is sent for a turn: [{role, content}] with the passages numbered in the system message, the history of its branch, and the question; or the messages that a request '
  'of the OpenAI API brought.';
GRANT EXECUTE ON FUNCTION chat.prompt(uuid) TO app;
