-- requires: 012_budget_metrics
-- Letters and spaces make a token in two or more characters with the usual byte-pair vocabularies; digits, signs and
-- bytes beyond ASCII may be one each. Deliberately high: it is what a reservation holds until the usage is known.
CREATE OR REPLACE FUNCTION budget.estimate_tokens(p_text text)
RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
  SELECT ceil((octet_length(p_text) - octet_length(r.rest)) / 2.0)::integer + octet_length(r.rest)
  FROM (SELECT regexp_replace(p_text, '[A-Za-z\s]+', '', 'g')) AS r (rest)
);

COMMENT ON FUNCTION budget.estimate_tokens(text) IS 'An upper estimate of the tokens of a text, without knowing the model''s vocabulary.';
GRANT EXECUTE ON FUNCTION budget.estimate_tokens(text) TO app, dba_readonly;
