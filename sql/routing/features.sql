-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.features(
  p_question text, p_requested text DEFAULT NULL, p_tools integer DEFAULT 0, p_passages integer DEFAULT 0, p_history_chars integer DEFAULT 0
)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'requested', coalesce(p_requested, 'auto'),
    'chars', length(p_question),
    'question_type', routing.question_type(p_question),
    'language', routing.language(p_question),
    'code', p_question ~ '```|^\s*(def|class|import|from|function|const|let|var|public|private|SELECT|INSERT|UPDATE|CREATE|#include)\M.*$|[{};]\s*$|=>|\)\s*\{|</\w+>',
    -- Kinds of analytic work, each counted once however often it is asked for.
    'tasks', (
      SELECT count(*) FROM (VALUES
        ('\m(compar\w*|contrast\w*|benchmark\w*|vergleich\w*)'), ('\m(analy[sz]\w*|assess\w*|evaluat\w*|examine|investigat\w*|bewerte\w*|analysier\w*|.valu\w+|analiz\w+|eval.a\w*)'),
        ('\m(recommend\w*|advise|suggest\w*|propos\w*|empfehl\w*|empfiehl|recommand\w*|recomiend\w*)'), ('\m(justify|argue|defend|substantiate|begr.nde\w*|justifi\w*)'),
        ('\m(calculat\w*|comput\w*|estimat\w*|quantif\w*|berechne\w*|sch.tze|calcul\w*)'), ('\m(plan|schedul\w*|prioriti[sz]\w*|sequence|plane|planifi\w*)\M'),
        ('\m(design\w*|architect\w*|model the|entwirf|entwerf\w*|dise.\w*)'), ('\m(risks?|mitigat\w*|contingenc\w*|risik\w*|risques?|riesgos?)\M'),
        ('\m(diagnos\w*|debug\w*|troubleshoot\w*|find out why|explain why|work out why)'), ('\m(consequences|implications|side effects|impact of|auswirkung\w*)\M')
      ) AS t (pattern)
      WHERE left(p_question, 20000) ~* t.pattern),
    'tools', p_tools,
    'passages', p_passages,
    'history_chars', p_history_chars,
    'roles', to_jsonb(array_remove(string_to_array(coalesce(current_setting('app.roles', true), ''), ','), '')),
    'tenant', core.current_tenant(),
    'region', (SELECT t.region FROM core.tenants AS t WHERE t.id = core.current_tenant()))
$$;

COMMENT ON FUNCTION routing.features(text, text, integer, integer, integer) IS
  'What the rules look at: {requested, chars, question_type, language, code, tasks, tools, passages, history_chars, roles, tenant, region}.';
GRANT EXECUTE ON FUNCTION routing.features(text, text, integer, integer, integer) TO app, dba_readonly;
