-- requires: 015_hybrid_search
-- Each language drops its own stop words. One that a second language keeps would look rare, because only that one's chunks are counted
-- for it; a long question is full of such words. So the chunks of a language that drops a word are taken to have it.
-- What a question says again and again is what it is about: Okapi's (k3 + 1) n / (k3 + n), with the k3 of its TREC runs (Robertson et
-- al., "Okapi at TREC-4", 1995). The parts of codes and addresses are read twice (rag.to_lexemes), so each counts as said twice.
-- No joins: rag.search, within whose settings this is planned, turns the quick ones off.
CREATE OR REPLACE FUNCTION rag.query_words(p_tenant uuid, p_query text)
RETURNS rag.query_word[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH read AS (
    -- A word is read as the tenant's languages read it; all of them count the words of a text alike.
    SELECT l.lexeme COLLATE "C" AS lexeme, p.position, sum(s.chunks) OVER (PARTITION BY p.position) AS of_readers
    FROM rag.statistics AS s
    CROSS JOIN unnest(rag.to_lexemes(s.language, left(p_query, 10000))) AS l
    CROSS JOIN unnest(l.positions) AS p (position)
    WHERE s.tenant_id = p_tenant
  ), lexemes AS (
    SELECT r.lexeme, min(r.position)::integer AS word, count(DISTINCT r.position)::double precision AS times,
      (min(ARRAY[r.position, r.of_readers]))[2] AS of_readers
    FROM read AS r
    GROUP BY r.lexeme
    ORDER BY word, r.lexeme
    LIMIT 1000
  ), counted AS MATERIALIZED (
    SELECT l.*, (SELECT sum(s.chunks) FROM rag.statistics AS s WHERE s.tenant_id = p_tenant) AS of_all,
      coalesce((SELECT v.chunks FROM rag.vocabulary AS v WHERE v.tenant_id = p_tenant AND v.lexeme = l.lexeme), 0) AS chunks
    FROM lexemes AS l
  ), words AS (
    SELECT c.*,
      least(c.of_all, sum(c.chunks) OVER (PARTITION BY c.word) + greatest(c.of_all - c.of_readers, 0))::double precision AS of_word
    FROM counted AS c
  )
  SELECT array_agg((
    w.word, w.lexeme, w.chunks, w.of_word > 0,
    ln(1 + (w.of_all - w.of_word + 0.5) / (w.of_word + 0.5)) * 9 * w.times / (8 + w.times))::rag.query_word ORDER BY w.chunks, w.word, w.lexeme)
  FROM words AS w
$$;

COMMENT ON FUNCTION rag.query_words(uuid, text) IS
  'The words of a query, in each language of the tenant, the rarest first; of a very long one the first thousand. A word weighs its inverse document frequency, more where the query '
  'repeats it. Internal: it trusts p_tenant.';
