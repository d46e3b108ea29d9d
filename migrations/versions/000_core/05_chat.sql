CREATE TABLE chat.conversations (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  user_id uuid NOT NULL,
  title text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES core.users ON DELETE CASCADE
);
CREATE INDEX conversations_user ON chat.conversations (tenant_id, user_id, updated_at DESC);
COMMENT ON TABLE chat.conversations IS 'A thread of turns that one user owns. Nobody else sees it unless it is shared.';

CREATE TABLE chat.shares (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  conversation_id uuid NOT NULL,
  user_id uuid,
  group_name text CHECK (group_name <> '' AND length(group_name) <= 255),
  whole_tenant boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  UNIQUE NULLS NOT DISTINCT (tenant_id, conversation_id, user_id, group_name, whole_tenant),
  FOREIGN KEY (tenant_id, conversation_id) REFERENCES chat.conversations ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, user_id) REFERENCES core.users ON DELETE CASCADE,
  CHECK (num_nonnulls(user_id, group_name) + whole_tenant::integer = 1)
);
CREATE INDEX shares_user ON chat.shares (tenant_id, user_id);
CREATE INDEX shares_group ON chat.shares (tenant_id, group_name) WHERE group_name IS NOT NULL;
CREATE INDEX shares_whole_tenant ON chat.shares (tenant_id) WHERE whole_tenant;
COMMENT ON TABLE chat.shares IS 'Who may read a conversation besides its owner: a user, whoever has a group in the token, or everybody of the tenant.';

-- What the policies of the conversations compare with; sql/chat/shared_with_me.sql is its present text.
CREATE FUNCTION chat.shared_with_me() RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT NULL::uuid[] $$;
GRANT EXECUTE ON FUNCTION chat.shared_with_me() TO app;

CREATE TABLE chat.turns (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  conversation_id uuid NOT NULL,
  user_id uuid NOT NULL,
  idempotency_key text CHECK (length(idempotency_key) BETWEEN 1 AND 255),
  request_sha256 bytea NOT NULL,
  status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'completed', 'failed', 'stopped')),
  model text,
  tier text,
  routing jsonb NOT NULL DEFAULT '{}',
  retrieval jsonb NOT NULL DEFAULT '{}',
  max_tokens integer NOT NULL CHECK (max_tokens > 0),
  stop_requested_at timestamptz,
  prompt_tokens integer CHECK (prompt_tokens >= 0),
  completion_tokens integer CHECK (completion_tokens >= 0),
  error_code text,
  error_detail text,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  finished_at timestamptz,
  UNIQUE (tenant_id, user_id, idempotency_key),
  FOREIGN KEY (tenant_id, conversation_id) REFERENCES chat.conversations ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, user_id) REFERENCES core.users ON DELETE CASCADE,
  CHECK ((status = 'failed') = (error_code IS NOT NULL)),
  CHECK ((status IN ('completed', 'failed', 'stopped')) = (finished_at IS NOT NULL))
);
CREATE INDEX turns_conversation ON chat.turns (tenant_id, conversation_id, created_at);
ALTER TABLE chat.turns ADD PRIMARY KEY (tenant_id, id);
COMMENT ON TABLE chat.turns IS 'One question and its answer: what was decided, why, and how it ended.';
COMMENT ON COLUMN chat.turns.request_sha256 IS 'Hash of what was asked, so that an idempotency key cannot be used for another request.';
COMMENT ON COLUMN chat.turns.routing IS 'Why this model: the answer of routing.choose.';
COMMENT ON COLUMN chat.turns.retrieval IS 'How the passages were searched for: mode hybrid, or text where no embedding could be had.';

CREATE TABLE chat.messages (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  conversation_id uuid NOT NULL,
  turn_id uuid NOT NULL,
  role text NOT NULL CHECK (role IN ('user', 'assistant')),
  content text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, turn_id, role),
  FOREIGN KEY (tenant_id, conversation_id) REFERENCES chat.conversations ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, turn_id) REFERENCES chat.turns ON DELETE CASCADE
);
CREATE INDEX messages_conversation ON chat.messages (tenant_id, conversation_id);
ALTER TABLE chat.messages ADD PRIMARY KEY (tenant_id, id);
COMMENT ON TABLE chat.messages IS 'What was said. A turn has a user message from its start and an assistant message from its end.';

CREATE TABLE chat.passages (
  tenant_id uuid NOT NULL,
  turn_id uuid NOT NULL,
  ordinal integer NOT NULL CHECK (ordinal >= 1),
  document_id uuid NOT NULL,
  chunk_id uuid NOT NULL,
  document_name text NOT NULL,
  heading text NOT NULL,
  content text NOT NULL,
  score double precision NOT NULL,
  vector_rank integer,
  text_rank integer,
  trigram_rank integer,
  PRIMARY KEY (tenant_id, turn_id, ordinal),
  FOREIGN KEY (tenant_id, turn_id) REFERENCES chat.turns ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, document_id) REFERENCES rag.documents ON DELETE CASCADE
);
CREATE INDEX passages_document ON chat.passages (tenant_id, document_id);
COMMENT ON TABLE chat.passages IS
  'The passages that a turn puts before the model, numbered and worded as it found them: every attempt sees the same, also when a document is indexed again meanwhile. They go with their document.';
COMMENT ON COLUMN chat.passages.chunk_id IS 'No foreign key: the chunk goes when its document is indexed again.';
COMMENT ON COLUMN chat.passages.score IS 'Reciprocal rank fusion of the three ranks; a NULL rank means that this leg did not find the passage.';

CREATE TABLE chat.citations (
  tenant_id uuid NOT NULL,
  message_id uuid NOT NULL,
  ordinal integer NOT NULL CHECK (ordinal >= 1),
  document_id uuid,
  chunk_id uuid NOT NULL,
  document_name text NOT NULL,
  heading text NOT NULL,
  quote text NOT NULL,
  PRIMARY KEY (tenant_id, message_id, ordinal),
  FOREIGN KEY (tenant_id, message_id) REFERENCES chat.messages ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, document_id) REFERENCES rag.documents ON DELETE SET NULL (document_id)
);
CREATE INDEX citations_document ON chat.citations (tenant_id, document_id);
COMMENT ON TABLE chat.citations IS 'The passages that an answer refers to by [n]; the quote outlives a re-indexed chunk.';
COMMENT ON COLUMN chat.citations.chunk_id IS 'No foreign key: the chunk goes when its document is indexed again.';
COMMENT ON COLUMN chat.citations.ordinal IS 'The n of [n] in the answer.';

GRANT SELECT ON chat.conversations, chat.shares, chat.turns, chat.messages, chat.passages, chat.citations TO app;
