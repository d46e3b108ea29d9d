CREATE TABLE rag.collections (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  name text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
  description text NOT NULL DEFAULT '' CHECK (length(description) <= 2000),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, name)
);
COMMENT ON TABLE rag.collections IS 'A named set of documents that a question can be limited to.';

CREATE TABLE rag.documents (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  collection_id uuid NOT NULL,
  name text NOT NULL CHECK (name <> '' AND length(name) <= 255),
  title text NOT NULL DEFAULT '',
  media_type text NOT NULL,
  language text,
  metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
  dated timestamptz,
  size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
  content_sha256 bytea NOT NULL,
  version integer NOT NULL DEFAULT 1,
  live_version integer,
  status text NOT NULL DEFAULT 'received' CHECK (status IN ('received', 'processing', 'indexed', 'failed')),
  stage text NOT NULL DEFAULT 'received' CHECK (stage IN ('received', 'extracting', 'chunking', 'embedding', 'indexed')),
  pages integer CHECK (pages > 0),
  chunks_total integer NOT NULL DEFAULT 0 CHECK (chunks_total >= 0),
  chunks_embedded integer NOT NULL DEFAULT 0 CHECK (chunks_embedded BETWEEN 0 AND chunks_total),
  chunks_failed integer NOT NULL DEFAULT 0 CHECK (chunks_failed BETWEEN 0 AND chunks_total - chunks_embedded),
  error_code text,
  error_detail text,
  attempts integer NOT NULL DEFAULT 0 CHECK (attempts BETWEEN 0 AND max_attempts),
  max_attempts integer NOT NULL DEFAULT 10 CHECK (max_attempts > 0),
  leased_by text,
  leased_until timestamptz,
  emitted_at timestamptz NOT NULL DEFAULT now(),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, collection_id, name),
  FOREIGN KEY (tenant_id, collection_id) REFERENCES rag.collections ON DELETE CASCADE,
  CHECK ((status = 'failed') = (error_code IS NOT NULL)),
  CHECK (status = 'processing' OR leased_until IS NULL)
);
CREATE INDEX documents_unfinished ON rag.documents (emitted_at) WHERE status IN ('received', 'processing');
COMMENT ON TABLE rag.documents IS 'A document by its name in a collection, and how far its indexing has come.';
COMMENT ON COLUMN rag.documents.title IS 'What the document calls itself; empty when it does not.';
COMMENT ON COLUMN rag.documents.language IS 'The text search configuration of its newest text, such as english; simple where the language is not known, NULL before extraction.';
COMMENT ON COLUMN rag.documents.metadata IS 'What was said about it when it was stored, and what extraction found: a flat object, which searches can filter by.';
COMMENT ON COLUMN rag.documents.dated IS 'The date of the content, by which searches can filter: as told, or else as the file says.';
COMMENT ON COLUMN rag.documents.content_sha256 IS 'Digest of the newest original: the same bytes again have nothing to do.';
COMMENT ON COLUMN rag.documents.version IS 'Counts replacements by name; the chunks of the live version answer until the newer ones are complete.';
COMMENT ON COLUMN rag.documents.live_version IS 'The version that searches see; NULL until the first one is indexed.';
COMMENT ON COLUMN rag.documents.stage IS 'Where the work stands, or where it stopped when status is failed.';
COMMENT ON COLUMN rag.documents.chunks_failed IS 'Chunks that no embedding could be had for: text search alone finds them.';
COMMENT ON COLUMN rag.documents.leased_until IS
  'Until then the worker named in leased_by owns the work; later anyone may take it over. NULL while no worker extracts: the embeddings have leases of their own.';
COMMENT ON COLUMN rag.documents.emitted_at IS 'When the event that asks for indexing was last put into the outbox.';

CREATE TABLE rag.contents (
  tenant_id uuid NOT NULL,
  document_id uuid NOT NULL,
  version integer NOT NULL,
  original bytea NOT NULL,
  body text,
  PRIMARY KEY (tenant_id, document_id, version),
  FOREIGN KEY (tenant_id, document_id) REFERENCES rag.documents ON DELETE CASCADE
);
ALTER TABLE rag.contents ALTER COLUMN original SET STORAGE EXTERNAL;
COMMENT ON TABLE rag.contents IS 'What a document consists of, for its newest version and the live one: apart from rag.documents, whose rows are small and change often.';
COMMENT ON COLUMN rag.contents.original IS 'The bytes as they came. Not compressed by PostgreSQL: most formats are already.';
COMMENT ON COLUMN rag.contents.body IS 'The extracted text, to which the characters of chunks refer; NULL before extraction.';

CREATE TABLE rag.chunks (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  document_id uuid NOT NULL,
  version integer NOT NULL,
  live boolean NOT NULL DEFAULT false,
  ordinal integer NOT NULL CHECK (ordinal >= 1),
  heading text NOT NULL DEFAULT '',
  page integer CHECK (page >= 1),
  content text NOT NULL CHECK (content <> ''),
  start_char integer NOT NULL CHECK (start_char >= 0),
  end_char integer NOT NULL CHECK (end_char > start_char),
  token_count integer NOT NULL CHECK (token_count > 0),
  language text NOT NULL DEFAULT 'english',
  search_text tsvector NOT NULL DEFAULT '',
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, document_id, version, ordinal),
  FOREIGN KEY (tenant_id, document_id) REFERENCES rag.documents ON DELETE CASCADE
);
CREATE INDEX chunks_search_text ON rag.chunks USING gin (search_text) WHERE live;
CREATE INDEX chunks_trigrams ON rag.chunks USING gin (content gin_trgm_ops) WHERE live;
COMMENT ON TABLE rag.chunks IS 'A passage of a document: what a search finds and a citation points to.';
COMMENT ON COLUMN rag.chunks.live IS 'Whether searches see it. The chunks of a version become live together, in the transaction that deletes the older ones.';
COMMENT ON COLUMN rag.chunks.heading IS 'The headings above the passage, outermost first, joined by " > ".';
COMMENT ON COLUMN rag.chunks.page IS 'The page, slide or sheet of its first character, from 1; NULL where the format has none.';
COMMENT ON COLUMN rag.chunks.start_char IS 'Offset of the first character in rag.contents.body of its version, from 0; end_char is one past the last.';
COMMENT ON COLUMN rag.chunks.token_count IS 'Tokens of the embedding model.';
COMMENT ON COLUMN rag.chunks.language IS 'The text search configuration that made search_text.';
COMMENT ON COLUMN rag.chunks.search_text IS 'Lexemes of the heading (weight A) and of the passage (weight B), kept by the trigger prepare_chunk.';

CREATE TABLE rag.embeddings (
  tenant_id uuid NOT NULL,
  chunk_id uuid NOT NULL,
  document_id uuid NOT NULL,
  embedding halfvec(1536 /* EMBEDDING_DIMENSIONS */) NOT NULL,
  PRIMARY KEY (tenant_id, chunk_id),
  FOREIGN KEY (tenant_id, chunk_id) REFERENCES rag.chunks ON DELETE CASCADE
);
CREATE INDEX embeddings_embedding ON rag.embeddings USING hnsw (embedding halfvec_cosine_ops);
COMMENT ON TABLE rag.embeddings IS
  'The vectors of live chunks, in narrow rows of their own: an exact search of a tenant reads little, and long texts do not push vectors out of line.';
COMMENT ON COLUMN rag.embeddings.embedding IS 'The embedding of title or name, heading and content: EMBEDDING_DIMENSIONS components, half precision.';

GRANT SELECT ON rag.collections, rag.documents, rag.contents, rag.chunks, rag.embeddings TO app;
