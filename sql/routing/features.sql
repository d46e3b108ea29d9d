-- requires: 000_core
CREATE OR REPLACE FUNCTION routing.features(
  p_question text, p_requested text DEFAULT NULL, p_tools integer DEFAULT 0, p_passages integer DEFAULT 0, p_history_chars integer DEFAULT 0
)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT routing.circumstances(p_question, p_requested, p_tools, p_passages, p_history_chars) || jsonb_build_object(
    'question_type', routing.question_type(own.words),
    'language', routing.language(p_question),
    -- Fences, tags, arrows, brackets and semicolons where prose has none; statements of the commonest languages.
    'code', left(p_question, 10000) LIKE ANY (ARRAY[
      '%```%', '%</%', '%=>%', '%();%', '%{_%', '%;', E'%;\n%', E'%):\n%', 'def %(%', E'%\ndef %(%', '#include%', E'%\nimport %',
      'SELECT % FROM %', E'%\nSELECT %', 'INSERT INTO %', 'UPDATE % SET %', 'CREATE TABLE %']),
    -- Kinds of analytic work, each counted once however often it is asked for; by the beginnings of its words.
    'tasks', (
      SELECT count(*) FROM (VALUES
        (ARRAY['% compar%', '% contrast%', '% benchmark%', '% vergleich%']),
        (ARRAY['% analy%', '% assess%', '% evaluat%', '% examine%', '% investigat%', '% identify%', '% bewert%', '% evalue%', '% evalua%', '% analiz%', '% identifi%', '% untersuch%']),
        (ARRAY['% recommend%', '% advise%', '% suggest%', '% propos%', '% empfehl%', '% empfiehl%', '% vorschlag%', '% schlage%', '% recommand%', '% recomien%', '% propon%']),
        (ARRAY['% justif%', '% argue%', '% defend%', '% substantiat%', '% begrund%', '% argument%']),
        (ARRAY['% calculat%', '% comput%', '% estimat%', '% quantif%', '% berechne%', '% schatz%', '% calcul%', '% chiffr%', '% estima%', '% cuantific%']),
        (ARRAY['% plan %', '% schedul%', '% prioriti%', '% sequence%', '% plane %', '% planifi%', '% rank %', '% priorisi%', '% prioriz%']),
        (ARRAY['% design%', '% architect%', '% model %', '% entwirf%', '% entwerf%', '% concevoir%', '% concois%', '% disen%']),
        (ARRAY['% risk%', '% mitigat%', '% contingenc%', '% risik%', '% risque%', '% riesgo%', '% masnahm%', '% gegenmas%']),
        (ARRAY['% diagnos%', '% debug%', '% troubleshoot%', '% find out%', '% explain why%', '% work out%', '% ermittl%', '% ursache%', '% cause%']),
        (ARRAY['% consequence%', '% implication%', '% side effect%', '% impact%', '% what follows%', '% auswirkung%', '% folgen %', '% consecuencia%'])
      ) AS t (stems)
      WHERE own.words LIKE ANY (t.stems)))
  FROM (SELECT routing.own_words(p_question) AS words OFFSET 0) AS own
$$;

COMMENT ON FUNCTION routing.features(text, text, integer, integer, integer) IS
  'What the rules look at: {requested, chars, question_type, language, code, tasks, tools, passages, history_chars, roles, tenant, region}.';
GRANT EXECUTE ON FUNCTION routing.features(text, text, integer, integer, integer) TO app, dba_readonly;
