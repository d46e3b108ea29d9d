DELETE FROM chat.turns
WHERE request IS NOT NULL;
ALTER TABLE chat.turns RESET (fillfactor);
ALTER TABLE chat.turns DROP COLUMN question_id, DROP COLUMN request, DROP COLUMN finish_reason, ALTER COLUMN conversation_id SET NOT NULL;
ALTER TABLE chat.messages DROP COLUMN search_text, DROP COLUMN user_id, DROP COLUMN parent_id, DROP COLUMN tool_calls, ALTER COLUMN conversation_id SET NOT NULL;
ALTER TABLE chat.conversations DROP COLUMN archived_at, DROP CONSTRAINT conversations_title;
DROP INDEX chat.turns_conversation;
CREATE INDEX turns_conversation ON chat.turns (tenant_id, conversation_id, created_at);
DROP INDEX chat.messages_conversation;
CREATE INDEX messages_conversation ON chat.messages (tenant_id, conversation_id);
DROP INDEX chat.conversations_user;
CREATE INDEX conversations_user ON chat.conversations (tenant_id, user_id, updated_at DESC);
COMMENT ON COLUMN chat.conversations.updated_at IS NULL;
COMMENT ON COLUMN chat.messages.conversation_id IS NULL;
COMMENT ON COLUMN chat.turns.conversation_id IS NULL;
