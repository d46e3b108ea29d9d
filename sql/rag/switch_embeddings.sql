-- requires: 008_ingestion_pipeline
-- Short, because nobody searches meanwhile: it renames, and touches no row but two of rag.embedding_models.
CREATE OR REPLACE FUNCTION rag.switch_embeddings(p_tolerated bigint DEFAULT 0)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_waits text := rag.reembedding_waits(p_tolerated);
  v_statement text;
BEGIN
  IF v_waits IS NOT NULL OR NOT EXISTS (SELECT FROM rag.embedding_models AS m WHERE m.status = 'building') THEN
    RETURN coalesce(v_waits, 'none');
  END IF;
  -- Who deletes may hold the second one and wait for the first: waiting for it would be a deadlock.
  LOCK TABLE rag.embeddings IN ACCESS EXCLUSIVE MODE;
  LOCK TABLE rag.embeddings_next IN ACCESS EXCLUSIVE MODE NOWAIT;
  v_waits := rag.reembedding_waits(p_tolerated);
  IF v_waits IS NOT NULL THEN
    RETURN v_waits;
  END IF;
  IF EXISTS (
    SELECT FROM (
      SELECT a.attname, a.atttypid, a.attnotnull FROM pg_attribute AS a WHERE a.attrelid = 'rag.embeddings'::regclass AND a.attnum > 0 AND NOT a.attisdropped
      EXCEPT
      SELECT a.attname, a.atttypid, a.attnotnull FROM pg_attribute AS a WHERE a.attrelid = 'rag.embeddings_next'::regclass AND a.attnum > 0
    ) AS lacking
  ) THEN
    PERFORM ops.raise_problem('conflict', 'rag.embeddings was altered since the re-embedding began: cancel it, and begin again.');
  END IF;

  FOR v_statement IN
    SELECT format('ALTER %s rag.%I RENAME TO %I', p.kind, r.was, r.name)
    FROM (
      SELECT 'INDEX' AS kind, c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE i.indrelid = 'rag.embeddings'::regclass
      UNION ALL
      SELECT 'STATISTICS', s.stxname FROM pg_statistic_ext AS s WHERE s.stxrelid = 'rag.embeddings'::regclass
    ) AS p
    CROSS JOIN LATERAL (
      VALUES (1, p.relname::text, rag.embeddings_part(p.relname, 'old')), (2, rag.embeddings_part(p.relname, 'next'), p.relname)
    ) AS r (turn, was, name)
    ORDER BY r.turn
  LOOP
    EXECUTE v_statement;
  END LOOP;
  ALTER TABLE rag.embeddings RENAME TO embeddings_old;
  ALTER TABLE rag.embeddings_next RENAME TO embeddings;

  -- The triggers go over: of two tables that a deletion empties, one is counted.
  FOR v_statement IN
    SELECT s.statement
    FROM pg_trigger AS t
    CROSS JOIN LATERAL (
      VALUES
        (replace(pg_get_triggerdef(t.oid), ' ON rag.embeddings_old ', ' ON rag.embeddings ')),
        (CASE t.tgenabled WHEN 'D' THEN format('ALTER TABLE rag.embeddings DISABLE TRIGGER %I', t.tgname)
         WHEN 'A' THEN format('ALTER TABLE rag.embeddings ENABLE ALWAYS TRIGGER %I', t.tgname)
         WHEN 'R' THEN format('ALTER TABLE rag.embeddings ENABLE REPLICA TRIGGER %I', t.tgname) END),
        (format('COMMENT ON TRIGGER %I ON rag.embeddings IS %L', t.tgname, obj_description(t.oid, 'pg_trigger'))),
        (format('DROP TRIGGER %I ON rag.embeddings_old', t.tgname))
    ) AS s (statement)
    WHERE t.tgrelid = 'rag.embeddings_old'::regclass AND NOT t.tgisinternal AND s.statement IS NOT NULL
    UNION ALL
    SELECT format('COMMENT ON INDEX rag.%I IS %L', made.relname, d.description)
    FROM pg_index AS i
    JOIN pg_class AS made ON made.oid = i.indexrelid
    JOIN pg_class AS old ON old.relname = rag.embeddings_part(made.relname, 'old') AND old.relnamespace = made.relnamespace
    JOIN pg_description AS d ON d.objoid = old.oid AND d.classoid = 'pg_class'::regclass
    WHERE i.indrelid = 'rag.embeddings'::regclass
    UNION ALL
    SELECT format('COMMENT ON STATISTICS rag.%I IS %L', made.stxname, d.description)
    FROM pg_statistic_ext AS made
    JOIN pg_statistic_ext AS old ON old.stxname = rag.embeddings_part(made.stxname, 'old')
    JOIN pg_description AS d ON d.objoid = old.oid AND d.classoid = 'pg_statistic_ext'::regclass
    WHERE made.stxrelid = 'rag.embeddings'::regclass
    UNION ALL
    SELECT format('COMMENT ON CONSTRAINT %I ON rag.embeddings IS %L', made.conname, d.description)
    FROM pg_constraint AS made
    JOIN pg_constraint AS old ON old.conrelid = 'rag.embeddings_old'::regclass AND old.conname IN (made.conname, rag.embeddings_part(made.conname, 'old'))
    JOIN pg_description AS d ON d.objoid = old.oid AND d.classoid = 'pg_constraint'::regclass
    WHERE made.conrelid = 'rag.embeddings'::regclass
    UNION ALL
    SELECT format('COMMENT ON POLICY %I ON rag.embeddings IS %L', p.polname, d.description)
    FROM pg_policy AS p
    JOIN pg_description AS d ON d.objoid = p.oid AND d.classoid = 'pg_policy'::regclass
    WHERE p.polrelid = 'rag.embeddings_old'::regclass
  LOOP
    EXECUTE v_statement;
  END LOOP;
  UPDATE rag.embedding_models AS m SET status = 'retired', ended_at = now() WHERE m.status = 'active';
  UPDATE rag.embedding_models AS m SET status = 'active', activated_at = now() WHERE m.status = 'building';
  RETURN 'switched';
END
$$;

COMMENT ON FUNCTION rag.switch_embeddings(bigint) IS
  'Puts rag.embeddings_next in the place of rag.embeddings, now rag.embeddings_old, once nothing is lacking but p_tolerated vectors of chunks, which follow: switched; or what it waits for, as '
  'rag.reembedding_waits; or none is being built. Raises lock_not_available: try again. For make reembed.';
