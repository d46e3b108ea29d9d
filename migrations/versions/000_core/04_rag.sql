CREATE TABLE rag.collections (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  name text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
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
  media_type text NOT NULL,
  content text NOT NULL,
  version integer NOT NULL DEFAULT 1,
  status text NOT NULL DEFAULT 'received' CHECK (status IN ('received', 'processing', 'indexed', 'failed')),
  stage text NOT NULL DEFAULT 'received' CHECK (stage IN ('received', 'chunking', 'embedding', 'indexed')),
  chunks_total integer NOT NULL DEFAULT 0 CHECK (chunks_total >= 0),
  chunks_embedded integer NOT NULL DEFAULT 0 CHECK (chunks_embedded BETWEEN 0 AND chunks_total),
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
  CHECK ((status = 'processing') = (leased_until IS NOT NULL))
);
CREATE INDEX documents_unfinished ON rag.documents (emitted_at) WHERE status IN ('received', 'processing');
COMMENT ON TABLE rag.documents IS 'The text of an uploaded document and how far its indexing has come.';
COMMENT ON COLUMN rag.documents.version IS 'Counts replacements by name; the chunks of the older version answer until the newer ones are complete.';
COMMENT ON COLUMN rag.documents.stage IS 'Where the work stands, or where it stopped when status is failed.';
COMMENT ON COLUMN rag.documents.leased_until IS 'Until then the worker named in leased_by owns the work; later anyone may take it over.';
COMMENT ON COLUMN rag.documents.emitted_at IS 'When the event that asks for indexing was last put into the outbox.';

CREATE TABLE rag.chunks (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  document_id uuid NOT NULL,
  ordinal integer NOT NULL CHECK (ordinal >= 1),
  heading text NOT NULL DEFAULT '',
  content text NOT NULL CHECK (content <> ''),
  start_char integer NOT NULL CHECK (start_char >= 0),
  end_char integer NOT NULL CHECK (end_char > start_char),
  token_count integer NOT NULL CHECK (token_count > 0),
  embedding halfvec(1536 /* EMBEDDING_DIMENSIONS */) NOT NULL,
  search_text tsvector NOT NULL GENERATED ALWAYS AS (
    setweight(to_tsvector('pg_catalog.english'::regconfig, heading), 'A')
    || setweight(to_tsvector('pg_catalog.english'::regconfig, content), 'B')
  ) STORED,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, document_id, ordinal),
  FOREIGN KEY (tenant_id, document_id) REFERENCES rag.documents ON DELETE CASCADE
);
CREATE INDEX chunks_embedding ON rag.chunks USING hnsw (embedding halfvec_cosine_ops);
CREATE INDEX chunks_search_text ON rag.chunks USING gin (search_text);
CREATE INDEX chunks_trigrams ON rag.chunks USING gin (content gin_trgm_ops);
COMMENT ON TABLE rag.chunks IS 'A passage of a document with its embedding: what a search finds and a citation points to.';
COMMENT ON COLUMN rag.chunks.heading IS 'The headings above the passage, outermost first, joined by " > ".';
COMMENT ON COLUMN rag.chunks.start_char IS 'Offset of the first character in the document''s content, from 0; end_char is one past the last.';
COMMENT ON COLUMN rag.chunks.embedding IS 'The embedding of document name, heading and content: EMBEDDING_DIMENSIONS components, half precision.';
COMMENT ON COLUMN rag.chunks.search_text IS 'Lexemes of the heading (weight A) and of the passage (weight B).';

GRANT SELECT ON rag.collections, rag.documents, rag.chunks TO app;
