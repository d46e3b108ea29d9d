-- requires: 015_hybrid_search
-- The index chunks_lexemes consists of this: whoever changes what it returns makes the index anew.
-- A GIN index has one key for a word, whoever's it is: a word that is common with other tenants would cost a tenant in which it
-- is rare. Here a key is the hash of tenant and word. (hashtextextended also decides over partitions, so it does not change.)
CREATE OR REPLACE FUNCTION rag.scoped_lexemes(p_tenant uuid, p_lexemes tsvector)
RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT array_agg(hashtextextended(l.lexeme, s.seed))
  FROM (SELECT hashtextextended(p_tenant::text, 0) AS seed) AS s, unnest(tsvector_to_array(p_lexemes)) AS l (lexeme)
$$;

COMMENT ON FUNCTION rag.scoped_lexemes(uuid, tsvector) IS 'A tenant''s words as keys of the index chunks_lexemes. Internal.';
