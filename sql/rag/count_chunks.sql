-- requires: 015_hybrid_search
-- Deferred, so that what it locks is locked last and for a moment only. All of the transaction's changes at once, and in one order,
-- so that two transactions wait for each other but never in a circle.
CREATE OR REPLACE FUNCTION rag.count_chunks()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_changes rag.chunk_changes[];
BEGIN
  WITH mine AS (
    DELETE FROM rag.chunk_changes AS c WHERE c.transaction = pg_current_xact_id() RETURNING c.*
  )
  SELECT array_agg(m::rag.chunk_changes) INTO v_changes FROM mine AS m;
  IF v_changes IS NULL THEN
    RETURN NULL;  -- counted with the first of them
  END IF;

  INSERT INTO rag.statistics AS s (tenant_id, language, chunks, tokens)
  SELECT c.tenant_id, c.language, sum(c.chunks), sum(c.tokens)
  FROM unnest(v_changes) AS c
  GROUP BY c.tenant_id, c.language
  ORDER BY c.tenant_id, c.language
  ON CONFLICT (tenant_id, language) DO UPDATE SET chunks = s.chunks + excluded.chunks, tokens = s.tokens + excluded.tokens;
  DELETE FROM rag.statistics AS s
  USING (SELECT DISTINCT c.tenant_id, c.language FROM unnest(v_changes) AS c) AS k
  WHERE s.tenant_id = k.tenant_id AND s.language = k.language AND s.chunks = 0;

  INSERT INTO rag.vocabulary AS v (tenant_id, lexeme, chunks)
  SELECT c.tenant_id, l.lexeme, sum(l.chunks)
  FROM unnest(v_changes) AS c, unnest(c.lexemes, c.lexeme_chunks) AS l (lexeme, chunks)
  GROUP BY c.tenant_id, l.lexeme
  HAVING sum(l.chunks) <> 0
  ORDER BY c.tenant_id, l.lexeme COLLATE "C"
  ON CONFLICT (tenant_id, lexeme) DO UPDATE SET chunks = v.chunks + excluded.chunks;
  DELETE FROM rag.vocabulary AS v
  USING (
    SELECT DISTINCT c.tenant_id, l.lexeme
    FROM unnest(v_changes) AS c, unnest(c.lexemes, c.lexeme_chunks) AS l (lexeme, chunks)
    WHERE l.chunks < 0
  ) AS k
  WHERE v.tenant_id = k.tenant_id AND v.lexeme = k.lexeme AND v.chunks = 0;
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION rag.count_chunks() IS 'A transaction that changed chunks is about to commit: brings rag.statistics and rag.vocabulary up to date.';

DROP TRIGGER IF EXISTS count_chunks ON rag.chunk_changes;
CREATE CONSTRAINT TRIGGER count_chunks
AFTER INSERT ON rag.chunk_changes
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION rag.count_chunks();
