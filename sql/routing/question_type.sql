-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.question_type(p_own_words text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce((
    SELECT t.name
    FROM routing.question_types() AS t
    WHERE p_own_words ~ t.pattern
    GROUP BY t.name
    ORDER BY sum(t.points) DESC, array_position(ARRAY['smalltalk', 'security', 'pii', 'classification', 'reasoning'], t.name) NULLS LAST, t.name
    LIMIT 1), 'other')
$$;

COMMENT ON FUNCTION routing.question_type(text) IS
  'What a question asks for, by its routing.own_words: the type for which most of routing.question_types speaks, or other.';
GRANT EXECUTE ON FUNCTION routing.question_type(text) TO app, dba_readonly;
