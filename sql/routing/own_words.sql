-- requires: 000_core
-- A question often brings a text along: a mail to be sorted, a contract to be translated, a program to be reviewed. What that text
-- says is not what is asked, so it is left out. The result is made for patterns: § begins a sentence, ¶ stands for what was left
-- out, a comma and a slash are words of their own, all else is in lower case without accents, and there is one space between words.
-- Long questions are read at both ends, where people say what they want.
CREATE OR REPLACE FUNCTION routing.own_words(p_question text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH ends AS MATERIALIZED (
    SELECT lower(CASE WHEN length(p_question) > 3000 THEN left(p_question, 2000) || E'\n' || right(p_question, 1000) ELSE p_question END) AS words
  ), plain AS (
    SELECT CASE WHEN octet_length(e.words) = length(e.words) THEN e.words
                ELSE translate(e.words, 'áàâäãåéèêëíìîïóòôöõúùûüçñßœ’¿¡', 'aaaaaaeeeeiiiiooooouuuucnso''  ') END AS words
    FROM ends AS e
  ), unquoted AS (
    -- What stands between fences, backticks or quotation marks; lines of code: they begin with a keyword, call something, assign
    -- something, or end with a bracket or semicolon.
    SELECT regexp_replace(p.words,
      '```(.|\n)*?(```|\Z)|`[^`\n]+`|"[^"]+"|[“„][^”“]+[”“]|«[^»]+»|(^|[\s:(])''[^'']{12,}''(?!\w)'
      '|^[ \t]*(def|class|import|const|let|var|public|select|insert|create table|resource|server|for|if|async|await|#include)\M[^\n?]*[(){}=;:][^\n?]*$|^[^\n?:]*[{};][ \t]*$|^[^\n? ]*[a-z_]\(.*\)[^\n?]*$|^[ \t]+[^\n?]* = .*$',
      ' ¶ ', 'gn') AS words
    FROM plain AS p
  ), unpasted AS (
    -- What follows a colon at the end of a line, or before a bracket; within a line where the words before it announce a text.
    SELECT regexp_replace(u.words,
      '( (this|these|following|below|here|text|message|mail|ticket|diese[mnrs]?|folgende[mnrs]?|cette|ces?|suivante?s?|est[aeo]s?|siguientes?)( [^ :.?!\n]+){0,2} ?):[^?\n]*$|:[ \t]*\n.*$|: *[][{}()<].*$',
      '\1 ¶ ') AS words
    FROM unquoted AS u
  ), marked AS (
    SELECT regexp_replace(replace(replace(regexp_replace(' § ' || u.words || E'\n', '[.!?;:]+\s|\n', ' § ', 'g'), ',', ' , '), '/', ' / '), '[^[:alnum:]§¶,/ ]+', ' ', 'g') AS words
    FROM unpasted AS u
  ), asked AS MATERIALIZED (
    -- Greetings and courtesies before what is asked.
    SELECT regexp_replace(' ' || array_to_string(array_remove(string_to_array(m.words, ' '), ''), ' ') || ' ',
      '§ ((hi|hello|hey|dear|hallo|moin|bonjour|salut|hola|good (morning|afternoon|evening|day)|guten (morgen|tag|abend)|buen[oa]s (dias|tardes)|there|team|all|everyone|everybody|colleagues'
      '|(one |a )?quick (one|question|thing)|so|ok|okay|now|then|next|also|finally|and|first|second|please|pls|kindly|(can|could|would|will) (you|we|someone|somebody)|i (need|want|would like|d like) you to'
      '|(i|we) (need|want|have|must|would like|d like|am asked|are asked)( to)?|help (me|us)( to)?|let s|let us|(tell|show|give|get) (me|us)|to|just|quickly'
      '|bitte|(kannst|konntest|wurdest) du( mir| uns)?|(konnen|konnten|wurden) sie( mir| uns)?|(ich|wir) (muss|mussen|mochten?|brauchen?|sollen?)|(hilf|sag|gib|zeig) (mir|uns)'
      '|s il (te|vous) plait|svp|(peux|pourrais) tu|(pouvez|pourriez) vous|(je|nous) (dois|devons|voudrais|voudrions|veux|voulons)|(dis|donne|aide|montre) (moi|nous)( a)?'
      '|por favor|(me |nos )?(puedes?|podrias?|podeis)|(necesito|necesitamos|quiero|queremos|tenemos|tengo)( que)?|(dime|dame|danos|ayudame|ayudanos)( a)?|,) )+', '§ ', 'g') AS words
    FROM marked AS m
  )
  SELECT CASE WHEN length(a.words) > 400 THEN left(a.words, 270) || ' § ' || right(a.words, 130) ELSE a.words END FROM asked AS a
$$;

COMMENT ON FUNCTION routing.own_words(text) IS
  'What somebody asks in their own words: without quotations, pasted text, code and courtesies; § begins a sentence, ¶ stands for what was left out.';
GRANT EXECUTE ON FUNCTION routing.own_words(text) TO app, dba_readonly;
