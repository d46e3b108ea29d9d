ALTER TABLE chat.conversations
ADD COLUMN archived_at timestamptz,
ADD CONSTRAINT conversations_title CHECK (length(title) BETWEEN 1 AND 200);
DROP INDEX chat.conversations_user;
CREATE INDEX conversations_user ON chat.conversations (tenant_id, user_id, updated_at DESC, id DESC);
COMMENT ON COLUMN chat.conversations.archived_at IS 'Since then it is left out of the list of conversations unless it is asked for.';
COMMENT ON COLUMN chat.conversations.updated_at IS 'When it was last asked or answered in: the order of the list. A new name does not move it.';

ALTER TABLE chat.messages
ALTER COLUMN conversation_id DROP NOT NULL,
ADD COLUMN parent_id uuid,
ADD COLUMN user_id uuid,
ADD COLUMN tool_calls jsonb,
ADD CONSTRAINT messages_parent_fkey FOREIGN KEY (tenant_id, parent_id) REFERENCES chat.messages ON DELETE CASCADE;
-- What belongs to no conversation is not looked for by it.
DROP INDEX chat.messages_conversation;
CREATE INDEX messages_conversation ON chat.messages (tenant_id, conversation_id) WHERE conversation_id IS NOT NULL;
CREATE INDEX messages_parent ON chat.messages (tenant_id, parent_id) WHERE parent_id IS NOT NULL;
COMMENT ON COLUMN chat.messages.conversation_id IS 'NULL: the answer to a request of the OpenAI API.';
COMMENT ON COLUMN chat.messages.parent_id IS
  'The message that this one follows: an answer its question, a question the answer before it. Several may follow one message: those are branches.';
COMMENT ON COLUMN chat.messages.tool_calls IS 'The tools that the model asks its client to call, in the shape of the OpenAI API.';

-- A turn's row changes three times in its life, and its indexed columns never: there is room for that beside it.
ALTER TABLE chat.turns SET (fillfactor = 60);
ALTER TABLE chat.turns
ALTER COLUMN conversation_id DROP NOT NULL,
ADD COLUMN question_id uuid,
ADD COLUMN request jsonb,
ADD COLUMN finish_reason text,
ADD CONSTRAINT turns_question_fkey FOREIGN KEY (tenant_id, question_id) REFERENCES chat.messages ON DELETE CASCADE
DEFERRABLE INITIALLY DEFERRED;

-- Conversations were lines until now: a question follows the latest answer that was there when it was asked.
UPDATE chat.turns AS t SET question_id = m.id
FROM chat.messages AS m
WHERE m.tenant_id = t.tenant_id AND m.turn_id = t.id AND m.role = 'user';
UPDATE chat.messages AS a SET parent_id = t.question_id
FROM chat.turns AS t
WHERE a.tenant_id = t.tenant_id AND a.turn_id = t.id AND a.role = 'assistant';
UPDATE chat.messages AS q SET parent_id = (
  SELECT a.id
  FROM chat.messages AS a
  INNER JOIN chat.turns AS earlier ON a.tenant_id = earlier.tenant_id AND a.turn_id = earlier.id
  WHERE a.tenant_id = q.tenant_id AND a.conversation_id = q.conversation_id AND a.role = 'assistant'
    AND earlier.finished_at <= q.created_at
  ORDER BY earlier.created_at DESC, earlier.id DESC
  LIMIT 1)
WHERE q.role = 'user';
SET CONSTRAINTS ALL IMMEDIATE;

ALTER TABLE chat.turns
ADD CONSTRAINT turns_source CHECK (
  num_nonnulls(conversation_id, question_id) = CASE WHEN request IS NULL THEN 2 ELSE 0 END);
DROP INDEX chat.turns_conversation;
CREATE INDEX turns_conversation ON chat.turns (tenant_id, conversation_id, created_at) WHERE conversation_id IS NOT NULL;
CREATE INDEX turns_question ON chat.turns (tenant_id, question_id) WHERE question_id IS NOT NULL;
COMMENT ON COLUMN chat.turns.conversation_id IS 'NULL: a request of the OpenAI API, which brings its own history.';
COMMENT ON COLUMN chat.turns.question_id IS 'The message that it answers; several turns of one question are its answers to choose from.';
COMMENT ON COLUMN chat.turns.request IS 'What a request of the OpenAI API sent: {messages, parameters}; NULL: a question of a conversation.';
COMMENT ON COLUMN chat.turns.finish_reason IS 'Why the model ended, in the words of the OpenAI API: stop, length, tool_calls, content_filter.';
