UPDATE chat.messages AS m SET user_id = t.user_id
FROM chat.turns AS t
WHERE t.tenant_id = m.tenant_id AND t.id = m.turn_id;
SET CONSTRAINTS ALL IMMEDIATE;

-- The owner is one of the words: the index itself then meets the owner's messages only, however many others hold the same words.
-- Of a text that is too long for a tsvector the beginning is indexed, so that no length keeps an answer from being stored.
ALTER TABLE chat.messages
ADD CONSTRAINT messages_owner CHECK ((user_id IS NULL) = (conversation_id IS NULL)),
ADD COLUMN search_text tsvector GENERATED ALWAYS AS (
  CASE WHEN user_id IS NOT NULL
    THEN array_to_tsvector(ARRAY[user_id::text]) || to_tsvector('pg_catalog.english'::regconfig, left(content, 100000))
  END
) STORED;
CREATE INDEX messages_search_text ON chat.messages USING gin (search_text) WHERE search_text IS NOT NULL;
COMMENT ON COLUMN chat.messages.user_id IS 'The owner of the conversation, for the search; NULL: the answer to a request of the OpenAI API. No foreign key: a message goes with its turn.';
COMMENT ON COLUMN chat.messages.search_text IS 'Lexemes of the text, and the owner''s id as one more.';
