-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION rag.query_words(p_tenant uuid, p_query text)
RETURNS rag.query_word[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH total AS (
    SELECT sum(s.chunks) AS chunks FROM rag.statistics AS s WHERE s.tenant_id = p_tenant
  ), read AS (
    -- A word is read as the tenant's languages read it; all of them count the words of a text alike.
    SELECT l.lexeme, min(l.positions[1])::integer AS word
    FROM rag.statistics AS s
    CROSS JOIN unnest(rag.to_lexemes(s.language, left(p_query, 10000))) AS l
    WHERE s.tenant_id = p_tenant
    GROUP BY l.lexeme
    ORDER BY word, l.lexeme
    LIMIT 256
  ), known AS (
    SELECT r.word, r.lexeme, coalesce(v.chunks, 0) AS chunks,
      coalesce(sum(v.chunks) OVER (PARTITION BY r.word), 0)::double precision AS of_word, t.chunks::double precision AS of_all
    FROM read AS r
    CROSS JOIN total AS t
    LEFT JOIN rag.vocabulary AS v ON v.tenant_id = p_tenant AND v.lexeme = r.lexeme
  )
  SELECT array_agg((
    k.word, k.lexeme, k.chunks, k.of_word > 0,
    ln(1 + (k.of_all - least(k.of_word, k.of_all) + 0.5) / (least(k.of_word, k.of_all) + 0.5)))::rag.query_word ORDER BY k.chunks, k.word, k.lexeme)
  FROM known AS k
$$;

COMMENT ON FUNCTION rag.query_words(uuid, text) IS 'The words of a query, in each language of the tenant, the rarest first. Internal: it trusts p_tenant.';
