-- What the text leg needs to know before it reads a chunk: how many chunks there are, and how many have a word.
CREATE TABLE rag.statistics (
  tenant_id uuid NOT NULL,
  language text NOT NULL,
  chunks bigint NOT NULL,
  tokens bigint NOT NULL,
  PRIMARY KEY (tenant_id, language)
);
COMMENT ON TABLE rag.statistics IS
  'How many live chunks a tenant has in each language, kept with every change of rag.chunks by the triggers of note_chunks and count_chunks. No foreign key: rows go '
  'when their count falls to 0.';
COMMENT ON COLUMN rag.statistics.language IS 'A text search configuration: a query is read by each of those that its tenant has.';
COMMENT ON COLUMN rag.statistics.tokens IS 'Of these chunks together: with their number, the average length that BM25 compares with.';

CREATE TABLE rag.vocabulary (
  tenant_id uuid NOT NULL,
  lexeme text COLLATE "C" NOT NULL,
  chunks bigint NOT NULL,
  PRIMARY KEY (tenant_id, lexeme)
);
COMMENT ON TABLE rag.vocabulary IS
  'The words of a tenant''s live chunks, as search_text has them: how common each is decides which ones find candidates, and a word that is not here is looked for by its '
  'spelling. Kept like rag.statistics.';
COMMENT ON COLUMN rag.vocabulary.chunks IS 'How many live chunks have it: the document frequency of BM25.';

-- Unlogged: no row outlives its transaction, and after a crash there is none.
CREATE UNLOGGED TABLE rag.chunk_changes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
  tenant_id uuid NOT NULL,
  language text NOT NULL,
  chunks bigint NOT NULL,
  tokens bigint NOT NULL,
  lexemes text[] NOT NULL,
  lexeme_chunks bigint[] NOT NULL
);
CREATE INDEX chunk_changes_transaction ON rag.chunk_changes (transaction);
COMMENT ON TABLE rag.chunk_changes IS
  'What the statements of a transaction that is not committed yet have changed in a tenant''s live chunks. Its last act adds this to rag.statistics and rag.vocabulary, so that '
  'their rows are locked for a moment, always in the same order, and not while vectors are indexed.';
COMMENT ON COLUMN rag.chunk_changes.chunks IS 'How many more live chunks; below 0: fewer.';
COMMENT ON COLUMN rag.chunk_changes.lexeme_chunks IS 'For each of lexemes, how many more live chunks have it.';

CREATE TYPE rag.query_word AS (word integer, lexeme text, chunks bigint, known boolean, weight double precision);
COMMENT ON TYPE rag.query_word IS
  'A word of a query as a language reads it: its position, its lexeme, how many live chunks have that, whether any has the word in one of its forms, and the word''s inverse document '
  'frequency.';

-- The function of an index. Its present text is in sql/rag; if it returns something else, the index has to be made anew.
--
-- A GIN index has one key for a word, whoever's it is: a word that is common with other tenants would cost a tenant in which it
-- is rare. Here a key is the hash of tenant and word. (hashtextextended also decides over partitions, so it does not change.)
CREATE FUNCTION rag.scoped_lexemes(p_tenant uuid, p_lexemes tsvector) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT array_agg(hashtextextended(l.lexeme, s.seed))
  FROM (SELECT hashtextextended(p_tenant::text, 0) AS seed) AS s, unnest(tsvector_to_array(p_lexemes)) AS l (lexeme)
$$;

DROP INDEX rag.chunks_search_text;
DROP INDEX rag.chunks_trigrams;
-- Without the list of pending entries, which every search would have to read.
CREATE INDEX chunks_lexemes ON rag.chunks USING gin (rag.scoped_lexemes(tenant_id, search_text)) WITH (fastupdate = off) WHERE live;
-- A misspelt word mostly has its first half right or its last: the primary key finds the one, this the other.
CREATE INDEX vocabulary_endings ON rag.vocabulary (tenant_id, reverse(lexeme)) WHERE length(lexeme) BETWEEN 4 AND 40;
CREATE INDEX embeddings_document ON rag.embeddings (tenant_id, document_id);

-- A candidate's search_text is read to rank it: in its row, as it is, that takes a fraction of what it takes out of line and
-- compressed. The content, which only results need, goes out of line first.
ALTER TABLE rag.chunks ALTER COLUMN search_text SET STORAGE MAIN;
ALTER TABLE rag.chunks SET (toast_tuple_target = 4080);

ALTER TABLE rag.statistics ENABLE ROW LEVEL SECURITY;
ALTER TABLE rag.vocabulary ENABLE ROW LEVEL SECURITY;
ALTER TABLE rag.chunk_changes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON rag.statistics TO app
USING (tenant_id = (SELECT core.current_tenant())) WITH CHECK (tenant_id = (SELECT core.current_tenant()));
CREATE POLICY tenant ON rag.vocabulary TO app
USING (tenant_id = (SELECT core.current_tenant())) WITH CHECK (tenant_id = (SELECT core.current_tenant()));
CREATE POLICY tenant ON rag.chunk_changes TO app
USING (tenant_id = (SELECT core.current_tenant())) WITH CHECK (tenant_id = (SELECT core.current_tenant()));
COMMENT ON POLICY tenant ON rag.statistics IS 'The functions'' role has no right to the table; the policy stands against the day when someone grants one.';
COMMENT ON POLICY tenant ON rag.vocabulary IS 'The functions'' role has no right to the table; the policy stands against the day when someone grants one.';
COMMENT ON POLICY tenant ON rag.chunk_changes IS 'The functions'' role has no right to the table; the policy stands against the day when someone grants one.';
CREATE POLICY dba ON rag.statistics FOR SELECT TO dba_readonly USING (true);
CREATE POLICY dba ON rag.vocabulary FOR SELECT TO dba_readonly USING (true);
CREATE POLICY dba ON rag.chunk_changes FOR SELECT TO dba_readonly USING (true);
COMMENT ON POLICY dba ON rag.statistics IS 'Database administrators read every tenant.';
COMMENT ON POLICY dba ON rag.vocabulary IS 'Database administrators read every tenant.';
COMMENT ON POLICY dba ON rag.chunk_changes IS 'Database administrators read every tenant.';
GRANT SELECT ON rag.statistics, rag.vocabulary, rag.chunk_changes TO dba_readonly;

-- The chunks that there are: the triggers count those that come.
INSERT INTO rag.statistics (tenant_id, language, chunks, tokens)
SELECT
  c.tenant_id,
  c.language,
  count(*) AS chunks,
  sum(c.token_count) AS tokens
FROM rag.chunks AS c
WHERE c.live
GROUP BY c.tenant_id, c.language;
INSERT INTO rag.vocabulary (tenant_id, lexeme, chunks)
SELECT
  c.tenant_id,
  l.lexeme,
  count(*) AS chunks
FROM rag.chunks AS c
CROSS JOIN unnest(tsvector_to_array(c.search_text)) AS l (lexeme)
WHERE c.live
GROUP BY c.tenant_id, l.lexeme;
