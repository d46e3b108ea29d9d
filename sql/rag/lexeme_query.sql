-- requires: 015_hybrid_search
-- Without a SET clause, so that it is inlined.
CREATE OR REPLACE FUNCTION rag.lexeme_query(p_lexeme text)
RETURNS tsquery
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT ('''' || replace(replace(p_lexeme, '\', '\\'), '''', '''''') || '''')::tsquery
$$;

COMMENT ON FUNCTION rag.lexeme_query(text) IS 'The query for one lexeme, taken as it is. Internal.';
