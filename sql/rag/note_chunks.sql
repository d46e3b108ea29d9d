-- requires: 015_hybrid_search
-- For each statement, not each row: a document's thousand chunks are counted at once.
CREATE OR REPLACE FUNCTION rag.note_chunks()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_added constant text := 'SELECT tenant_id, language, 1 AS sign, token_count, search_text FROM added WHERE live';
  c_removed constant text := 'SELECT tenant_id, language, -1 AS sign, token_count, search_text FROM removed WHERE live';
BEGIN
  IF tg_op = 'TRUNCATE' THEN
    -- Not truncated themselves, because this transaction may be about to count.
    DELETE FROM rag.chunk_changes;
    DELETE FROM rag.statistics;
    DELETE FROM rag.vocabulary;
    RETURN NULL;
  END IF;
  -- The transition tables that there are depend on the operation, so the statement is made of them.
  EXECUTE format($sql$
    WITH changed AS (
      %s
    ), words AS (
      SELECT c.tenant_id, c.language, l.lexeme, sum(c.sign) AS chunks
      FROM changed AS c, unnest(tsvector_to_array(c.search_text)) AS l (lexeme)
      GROUP BY c.tenant_id, c.language, l.lexeme
      HAVING sum(c.sign) <> 0
    ), gathered AS (
      SELECT w.tenant_id, w.language, array_agg(w.lexeme) AS lexemes, array_agg(w.chunks) AS lexeme_chunks
      FROM words AS w
      GROUP BY w.tenant_id, w.language
    )
    INSERT INTO rag.chunk_changes (tenant_id, language, chunks, tokens, lexemes, lexeme_chunks)
    SELECT t.tenant_id, t.language, t.chunks, t.tokens, coalesce(g.lexemes, '{}'), coalesce(g.lexeme_chunks, '{}')
    FROM (
      SELECT c.tenant_id, c.language, sum(c.sign) AS chunks, sum(c.sign * c.token_count) AS tokens
      FROM changed AS c
      GROUP BY c.tenant_id, c.language
    ) AS t
    LEFT JOIN gathered AS g USING (tenant_id, language)
    WHERE t.chunks <> 0 OR t.tokens <> 0 OR g.lexemes IS NOT NULL
    $sql$,
    CASE tg_op WHEN 'INSERT' THEN c_added WHEN 'DELETE' THEN c_removed ELSE c_added || ' UNION ALL ' || c_removed END);
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION rag.note_chunks() IS 'Live chunks have come, gone or changed: notes by how much, for the end of the transaction (count_chunks).';

CREATE OR REPLACE TRIGGER note_added_chunks
AFTER INSERT ON rag.chunks REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION rag.note_chunks();
CREATE OR REPLACE TRIGGER note_changed_chunks
AFTER UPDATE ON rag.chunks REFERENCING NEW TABLE AS added OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION rag.note_chunks();
CREATE OR REPLACE TRIGGER note_removed_chunks
AFTER DELETE ON rag.chunks REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION rag.note_chunks();
CREATE OR REPLACE TRIGGER note_truncated_chunks
AFTER TRUNCATE ON rag.chunks
FOR EACH STATEMENT EXECUTE FUNCTION rag.note_chunks();
