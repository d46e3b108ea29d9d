-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.matching_rule(p_question text, p_features jsonb)
RETURNS routing.rules
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT r
  FROM routing.rules AS r
  WHERE r.enabled
    AND (p_features ->> 'chars')::integer BETWEEN coalesce(r.min_chars, 0) AND coalesce(r.max_chars, 2147483647)
    AND (r.question_types IS NULL OR p_features ->> 'question_type' = ANY (r.question_types))
    AND (r.languages IS NULL OR p_features ->> 'language' = ANY (r.languages))
    AND (r.code IS NULL OR (p_features ->> 'code')::boolean = r.code)
    AND (r.tools IS NULL OR ((p_features ->> 'tools')::integer > 0) = r.tools)
    AND (r.min_tasks IS NULL OR (p_features ->> 'tasks')::integer >= r.min_tasks)
    AND (p_features ->> 'passages')::integer BETWEEN coalesce(r.min_passages, 0) AND coalesce(r.max_passages, 2147483647)
    AND (p_features ->> 'history_chars')::integer >= coalesce(r.min_history_chars, 0)
    AND (r.requested IS NULL OR p_features ->> 'requested' = ANY (r.requested))
    AND (r.tenants IS NULL OR (p_features ->> 'tenant')::uuid = ANY (r.tenants))
    AND (r.roles IS NULL OR p_features -> 'roles' ?| r.roles)
    AND (r.pattern IS NULL OR p_question ~* r.pattern)
  ORDER BY r.position
  LIMIT 1
$$;

COMMENT ON FUNCTION routing.matching_rule(text, jsonb) IS 'The first rule whose conditions hold for a question and its routing.features.';
GRANT EXECUTE ON FUNCTION routing.matching_rule(text, jsonb) TO app, dba_readonly;
