CREATE TABLE rag.embedding_models (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL CHECK (name <> ''),
  width integer NOT NULL CHECK (width BETWEEN 1 AND 4000),
  status text NOT NULL CHECK (status IN ('active', 'building', 'retired', 'cancelled')),
  queued_tenant uuid,
  queued_chunk uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  activated_at timestamptz,
  ended_at timestamptz
);
CREATE UNIQUE INDEX embedding_models_in_use ON rag.embedding_models (status) WHERE status IN ('active', 'building');
COMMENT ON TABLE rag.embedding_models IS
  'Which model made the vectors of rag.embeddings (active), which one a re-embedding makes those of rag.embeddings_next by (building), and the earlier ones.';
COMMENT ON COLUMN rag.embedding_models.id IS 'Goes along with a vector: those of two models are never compared, even when name and width are the same.';
COMMENT ON COLUMN rag.embedding_models.name IS 'As the embedding endpoint knows it.';
COMMENT ON COLUMN rag.embedding_models.queued_chunk IS
  'How far a re-embedding has queued the chunks that there were before it: the last one in the order (tenant_id, id); with queued_tenant.';
GRANT SELECT ON rag.embedding_models TO app, dba_readonly;

CREATE TABLE rag.embedding_queue (
  tenant_id uuid NOT NULL,
  chunk_id uuid NOT NULL,
  model_id integer NOT NULL REFERENCES rag.embedding_models,
  document_id uuid NOT NULL,
  version integer NOT NULL,
  text_hash uuid NOT NULL,
  status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'done', 'failed')),
  turn_at timestamptz NOT NULL DEFAULT now(),
  due_at timestamptz NOT NULL DEFAULT '-infinity',
  attempts integer NOT NULL DEFAULT 0,
  leased_by text,
  embedding halfvec,
  error_code text,
  error_detail text,
  PRIMARY KEY (tenant_id, chunk_id, model_id),
  FOREIGN KEY (tenant_id, chunk_id) REFERENCES rag.chunks ON DELETE CASCADE,
  CHECK ((status = 'done') = (embedding IS NOT NULL)),
  CHECK (status <> 'failed' OR error_code IS NOT NULL)
) WITH (
  -- A claim changes no indexed column, so that with room in the page it writes no index; and every row leaves soon.
  fillfactor = 70,
  autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.1
);
CREATE INDEX embedding_queue_turn ON rag.embedding_queue (tenant_id, model_id, turn_at) WHERE status = 'waiting';
CREATE INDEX embedding_queue_document ON rag.embedding_queue (tenant_id, document_id, status);
CREATE INDEX embedding_queue_model ON rag.embedding_queue (model_id);
COMMENT ON TABLE rag.embedding_queue IS
  'Chunks that want a vector of a model. Those of a version that is not live keep theirs here, until the version is complete and all of them move to '
  'rag.embeddings together; rows of chunks that have their vector are gone.';
COMMENT ON COLUMN rag.embedding_queue.text_hash IS 'rag.text_hash of what is to be embedded.';
COMMENT ON COLUMN rag.embedding_queue.turn_at IS
  'The order in which chunks are taken. Later ones of a long document have later turns, so that short documents that come after it are done before its end.';
COMMENT ON COLUMN rag.embedding_queue.due_at IS
  'Not to be claimed before: the end of a lease, or of a back-off. It stands in no index, so that a claim writes none.';
COMMENT ON COLUMN rag.embedding_queue.attempts IS 'How often it was claimed.';
COMMENT ON COLUMN rag.embedding_queue.leased_by IS 'The worker that may store its vector; NULL when nobody has it in hand.';
COMMENT ON COLUMN rag.embedding_queue.embedding IS 'Of its model''s width, so without one of its own.';
COMMENT ON COLUMN rag.embedding_queue.error_code IS 'Why the last attempt failed; for a row that failed for good, why it has no vector.';

-- What is asked first of a text: whether the tenant has its vector already.
ALTER TABLE rag.embeddings ADD COLUMN text_hash uuid;
COMMENT ON COLUMN rag.embeddings.text_hash IS 'rag.text_hash of the text whose vector this is: a chunk with the same text takes it over. NULL: not known.';
CREATE INDEX embeddings_text_hash ON rag.embeddings (tenant_id, text_hash) WHERE text_hash IS NOT NULL;

-- A document that is indexed without some of its vectors says why.
ALTER TABLE rag.documents DROP CONSTRAINT documents_check3;
ALTER TABLE rag.documents ADD CONSTRAINT documents_cause
CHECK ((status <> 'failed' OR error_code IS NOT NULL) AND (error_code IS NULL OR status = 'failed' OR chunks_failed > 0));
COMMENT ON COLUMN rag.documents.error_code IS 'Why it failed; or, where chunks_failed is not 0, why the first of those chunks has no vector.';

ALTER TABLE rag.embedding_queue ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON rag.embedding_queue TO app
USING (tenant_id = (SELECT core.current_tenant())) WITH CHECK (tenant_id = (SELECT core.current_tenant()));
COMMENT ON POLICY tenant ON rag.embedding_queue IS 'The functions see and write the rows of the current tenant only.';
CREATE POLICY dba ON rag.embedding_queue FOR SELECT TO dba_readonly USING (true);
COMMENT ON POLICY dba ON rag.embedding_queue IS 'Database administrators read every tenant.';
GRANT SELECT ON rag.embedding_queue TO app, dba_readonly;
