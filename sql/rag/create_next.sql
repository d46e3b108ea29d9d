-- requires: 008_ingestion_pipeline
-- Whatever has been added to rag.embeddings is read from the catalog. Triggers come with the switch, because until then the rows
-- count for nobody; indexes that are no keys come when the rows are in, because that takes a fraction of the time. It is a transaction of its own, because its
-- foreign key locks rag.chunks: who writes holds these and rag.embeddings in either order.
CREATE OR REPLACE FUNCTION rag.create_next(p_width integer)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_table constant regclass := 'rag.embeddings'::regclass;
  v_statement text;
BEGIN
  CREATE TABLE rag.embeddings_next (LIKE rag.embeddings INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS);
  FOR v_statement IN
    SELECT format('ALTER TABLE rag.embeddings_next ALTER COLUMN embedding TYPE %s', format_type(a.atttypid, p_width))
    FROM pg_attribute AS a
    WHERE a.attrelid = c_table AND a.attname = 'embedding'
    UNION ALL
    SELECT format('ALTER TABLE rag.embeddings_next ALTER COLUMN %I SET STATISTICS %s', a.attname, a.attstattarget)
    FROM pg_attribute AS a
    WHERE a.attrelid = c_table AND a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0
    UNION ALL
    SELECT format('ALTER TABLE rag.embeddings_next SET (%s%s)', CASE WHEN t.oid <> c_table THEN 'toast.' END, o.option)
    FROM pg_class AS t
    CROSS JOIN unnest(t.reloptions) AS o (option)
    WHERE t.oid IN (c_table, (SELECT c.reltoastrelid FROM pg_class AS c WHERE c.oid = c_table))
    UNION ALL
    SELECT format(
      'ALTER TABLE rag.embeddings_next ADD CONSTRAINT %I %s',
      CASE k.contype WHEN 'f' THEN k.conname ELSE rag.embeddings_part(k.conname, 'next') END, pg_get_constraintdef(k.oid))
    FROM pg_constraint AS k
    WHERE k.conrelid = c_table AND k.contype IN ('p', 'u', 'x', 'f')
    UNION ALL
    SELECT regexp_replace(
      regexp_replace(pg_get_statisticsobjdef(s.oid), '^CREATE STATISTICS \S+', format('CREATE STATISTICS rag.%I', rag.embeddings_part(s.stxname, 'next'))),
      ' FROM \S+$', ' FROM rag.embeddings_next')
    FROM pg_statistic_ext AS s
    WHERE s.stxrelid = c_table
    UNION ALL
    SELECT 'ALTER TABLE rag.embeddings_next ' || s.statement
    FROM pg_class AS c
    CROSS JOIN LATERAL (
      VALUES (c.relrowsecurity, 'ENABLE ROW LEVEL SECURITY'), (c.relforcerowsecurity, 'FORCE ROW LEVEL SECURITY')
    ) AS s (wanted, statement)
    WHERE c.oid = c_table AND s.wanted
    UNION ALL
    SELECT format(
      'CREATE POLICY %I ON rag.embeddings_next AS %s FOR %s TO %s%s%s', p.policyname, p.permissive, p.cmd,
      (SELECT string_agg(CASE r.name WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(r.name) END, ', ') FROM unnest(p.roles) AS r (name)),
      ' USING (' || regexp_replace(p.qual, '\membeddings\.', 'embeddings_next.', 'g') || ')',
      ' WITH CHECK (' || regexp_replace(p.with_check, '\membeddings\.', 'embeddings_next.', 'g') || ')')
    FROM pg_policies AS p
    WHERE p.schemaname = 'rag' AND p.tablename = 'embeddings'
    UNION ALL
    SELECT format(
      'GRANT %s%s ON rag.embeddings_next TO %s%s', g.privilege_type, '(' || quote_ident(g.attname) || ')',
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END, CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END)
    FROM (
      SELECT NULL::name AS attname, e.privilege_type, e.grantee, e.is_grantable FROM pg_class AS c, aclexplode(c.relacl) AS e WHERE c.oid = c_table
      UNION ALL
      SELECT a.attname, e.privilege_type, e.grantee, e.is_grantable FROM pg_attribute AS a, aclexplode(a.attacl) AS e WHERE a.attrelid = c_table
    ) AS g
  LOOP
    EXECUTE v_statement;
  END LOOP;
  EXECUTE format('COMMENT ON TABLE rag.embeddings_next IS %L', obj_description(c_table, 'pg_class'));
END
$$;

COMMENT ON FUNCTION rag.create_next(integer) IS
  'Makes rag.embeddings_next like rag.embeddings, for vectors of another width: keys, policies, grants, options and comments. Raises lock_not_available: try again. For make reembed.';
