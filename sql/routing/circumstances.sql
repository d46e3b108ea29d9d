-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.circumstances(
  p_question text, p_requested text DEFAULT NULL, p_tools integer DEFAULT 0, p_passages integer DEFAULT 0, p_history_chars integer DEFAULT 0
)
RETURNS jsonb
LANGUAGE sql STABLE
AS $$
  SELECT jsonb_build_object(
    'requested', coalesce(p_requested, 'auto'),
    'chars', length(p_question),
    'tools', p_tools,
    'passages', p_passages,
    'history_chars', p_history_chars,
    'roles', to_jsonb(array_remove(string_to_array(coalesce(current_setting('app.roles', true), ''), ','), '')),
    'tenant', core.current_tenant(),
    'region', (SELECT t.region FROM core.tenants AS t WHERE t.id = core.current_tenant()))
$$;

COMMENT ON FUNCTION routing.circumstances(text, text, integer, integer, integer) IS
  'What is known of a turn without reading its question: {requested, chars, tools, passages, history_chars, roles, tenant, region}.';
GRANT EXECUTE ON FUNCTION routing.circumstances(text, text, integer, integer, integer) TO app, dba_readonly;
