-- requires: 015_hybrid_search
-- The words that say nothing say in which language: of the configurations that have a list of stop words, the one whose list holds the
-- largest share of the text's words. A table of numbers or a list of names has none of them.
CREATE OR REPLACE FUNCTION rag.detect_language(p_text text)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH words AS (
    SELECT w.word, count(*)::double precision AS times
    FROM regexp_split_to_table(lower(left(p_text, 20000)), '[^[:alpha:]]+') AS w (word)
    WHERE w.word <> ''
    GROUP BY w.word
  ), shares AS (
    SELECT c.cfgname::text AS language, sum(w.times) / (SELECT sum(a.times) FROM words AS a) AS share
    FROM pg_ts_config AS c
    JOIN pg_ts_dict AS d ON d.dictname = c.cfgname || '_stem' AND d.dictnamespace = c.cfgnamespace
    JOIN words AS w ON ts_lexize(d.oid, w.word) = '{}'
    WHERE c.cfgnamespace = 'pg_catalog'::regnamespace
    GROUP BY c.cfgname
  )
  SELECT coalesce((
    SELECT s.language
    FROM shares AS s
    WHERE s.share >= 0.15 AND s.share >= 1.1 * coalesce((SELECT max(o.share) FROM shares AS o WHERE o.language <> s.language), 0)
  ), 'simple')
$$;

COMMENT ON FUNCTION rag.detect_language(text) IS
  'The text search configuration of a text''s language, by its stop words; simple where no language has clearly the most of them.';
GRANT EXECUTE ON FUNCTION rag.detect_language(text) TO app;
