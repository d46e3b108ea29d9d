-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.question_type(p_question text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce((
    SELECT t.name FROM routing.question_types() AS t
    WHERE left(p_question, 20000) ~* t.pattern
    ORDER BY t.priority
    LIMIT 1), 'other')
$$;

COMMENT ON FUNCTION routing.question_type(text) IS 'What a question asks for: the first of routing.question_types that its first 20,000 characters match, or other.';
GRANT EXECUTE ON FUNCTION routing.question_type(text) TO app, dba_readonly;
