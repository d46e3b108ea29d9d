DELETE FROM chat.turns
WHERE request IS NOT NULL;
ALTER TABLE chat.turns DROP COLUMN question_id, DROP COLUMN request, DROP COLUMN finish_reason, ALTER COLUMN conversation_id SET NOT NULL;
ALTER TABLE chat.messages DROP COLUMN parent_id, DROP COLUMN tool_calls, ALTER COLUMN conversation_id SET NOT NULL;
ALTER TABLE chat.conversations DROP COLUMN archived_at;
