-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION inference.count_tokens(p_text text, p_pieces integer)
RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN octet_length(p_text) <= 8 * p_pieces THEN p_pieces ELSE budget.estimate_tokens(p_text) END;

COMMENT ON FUNCTION inference.count_tokens(text, integer) IS
  'The tokens of an answer that arrived in so many pieces, without a count by the server: the pieces, or an upper estimate where they are longer than tokens usually are.';
GRANT EXECUTE ON FUNCTION inference.count_tokens(text, integer) TO app;
