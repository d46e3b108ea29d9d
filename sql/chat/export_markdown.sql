-- requires: 003_conversation_fields
-- It runs with the caller's rights: who may read a conversation may take it along. The [n] of an answer become footnotes, numbered by the
-- message as well, because each answer counts its passages from 1.
CREATE OR REPLACE FUNCTION chat.export_markdown(p_conversation_id uuid, p_leaf_id uuid DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_conversation chat.conversations := chat.readable_conversation(p_conversation_id);
  v_message record;
  v_citation record;
  v_text text;
  v_number integer := 0;
  v_body text := '# ' || regexp_replace(v_conversation.title, '\s+', ' ', 'g');
  v_notes text := '';
BEGIN
  FOR v_message IN
    SELECT m.id, m.role, m.content, m.created_at, t.model
    FROM chat.branch(p_conversation_id, coalesce(p_leaf_id, chat.newest_leaf(p_conversation_id))) WITH ORDINALITY AS m
    JOIN chat.turns AS t ON t.tenant_id = m.tenant_id AND t.id = m.turn_id
    ORDER BY m.ordinality
  LOOP
    v_number := v_number + 1;
    v_text := v_message.content;
    FOR v_citation IN
      SELECT c.n, c.document, c.heading, c.quote
      FROM jsonb_to_recordset(chat.message_citations(v_message.id)) AS c (n integer, document text, heading text, quote text)
    LOOP
      v_text := replace(v_text, format('[%s]', v_citation.n), format('[^%s-%s]', v_number, v_citation.n));
      v_notes := v_notes || format(E'\n[^%s-%s]: %s', v_number, v_citation.n, regexp_replace(
        format('%s%s: "%s"', v_citation.document, coalesce(' > ' || nullif(v_citation.heading, ''), ''), v_citation.quote), '\s+', ' ', 'g'));
    END LOOP;
    v_body := v_body || format(E'\n\n## %s\n\n%s', CASE v_message.role WHEN 'user' THEN 'Question' ELSE format('Answer (%s)', v_message.model) END, v_text);
  END LOOP;
  IF p_leaf_id IS NOT NULL AND v_number = 0 THEN
    PERFORM ops.raise_problem('not_found', 'There is no such message in the conversation.', jsonb_build_object('message_id', p_leaf_id));
  END IF;
  RETURN jsonb_build_object('title', v_conversation.title, 'markdown', v_body || E'\n' || v_notes || CASE v_notes WHEN '' THEN '' ELSE E'\n' END);
END
$$;

COMMENT ON FUNCTION chat.export_markdown(uuid, uuid) IS
  'One branch of a conversation that the current user may read, up to p_leaf_id or the newest one, for people to read: {title, markdown}. Raises not_found.';
GRANT EXECUTE ON FUNCTION chat.export_markdown(uuid, uuid) TO app;
