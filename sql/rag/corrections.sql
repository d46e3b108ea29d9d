-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION rag.corrections(p_tenant uuid, p_words rag.query_word[])
RETURNS TABLE (word text, lexeme text, chunks bigint, similarity real, weight double precision)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH unknown AS (
    -- Of a long query those that it repeats, and no more than count in its share (rag.query_weight): each is compared with thousands.
    SELECT q.lexeme
    FROM (SELECT w.*, dense_rank() OVER (ORDER BY w.weight DESC, w.word) AS place FROM unnest(p_words) AS w WHERE NOT w.known) AS q
    WHERE q.place <= 4
    ORDER BY q.place, q.lexeme
    LIMIT 8
  ), alike AS (
    SELECT DISTINCT ON (s.lexeme) u.lexeme AS word, s.lexeme, s.chunks, s.similarity
    FROM unknown AS u
    CROSS JOIN LATERAL rag.similar_words(p_tenant, u.lexeme) AS s
    ORDER BY s.lexeme, s.similarity DESC
  )
  SELECT a.word, a.lexeme, a.chunks, a.similarity, a.similarity * ln(1 + (t.chunks - a.chunks + 0.5) / (a.chunks + 0.5))::double precision
  FROM alike AS a
  CROSS JOIN (SELECT sum(s.chunks) AS chunks FROM rag.statistics AS s WHERE s.tenant_id = p_tenant) AS t
$$;

COMMENT ON FUNCTION rag.corrections(uuid, rag.query_word[]) IS
  'What is searched for in place of words of the query that no chunk of the tenant has: words spelt alike, weighted by similarity and inverse document frequency. Internal: it '
  'trusts p_tenant.';
