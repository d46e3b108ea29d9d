-- requires: 000_core
-- By the commonest small words of each language, or by its letters. A guess that costs nothing: routing asks no more of it.
CREATE OR REPLACE FUNCTION routing.language(p_text text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH words AS (
    SELECT string_to_array(trim(regexp_replace(lower(left(p_text, 4000)), '[^[:alpha:]]+', ' ', 'g')), ' ') AS all
  ), scores AS (
    SELECT l.code, (SELECT count(*) FROM unnest(words.all) AS w (word) WHERE w.word = ANY (l.words)) AS hits
    FROM words
    CROSS JOIN (VALUES
      ('en', ARRAY['the','is','are','and','of','to','in','what','how','this','that','which','for','a','an','with','does','do','please','we','our']),
      ('de', ARRAY['der','die','das','und','ist','ein','eine','wie','was','wir','nicht','mit','den','dem','bitte','welche','für','auf','ich','sind','zu']),
      ('fr', ARRAY['le','la','les','et','est','un','une','des','que','quelle','quel','pour','dans','nous','ce','cette','sur','avec','du','comment']),
      ('es', ARRAY['el','los','las','y','es','una','qué','que','cómo','para','en','este','esta','con','del','por','cuál','nuestro','son']),
      ('it', ARRAY['il','lo','gli','e','è','una','che','come','per','di','questo','questa','con','del','della','qual','nostro','sono']),
      ('nl', ARRAY['het','een','en','is','van','dat','wat','hoe','voor','met','niet','deze','wij','onze','zijn','op','naar']),
      ('pt', ARRAY['o','os','as','e','é','uma','que','como','para','em','este','esta','com','do','da','qual','nosso','são','não'])
    ) AS l (code, words)
  )
  SELECT CASE
    WHEN p_text ~ '[ぁ-ヿ]' THEN 'ja'
    WHEN p_text ~ '[一-鿿]' THEN 'zh'
    WHEN p_text ~ '[가-힯]' THEN 'ko'
    WHEN p_text ~ '[а-яА-Я]{3}' THEN 'ru'
    WHEN p_text ~ '[؀-ۿ]{3}' THEN 'ar'
    ELSE coalesce((SELECT s.code FROM scores AS s WHERE s.hits > 0 ORDER BY s.hits DESC, s.code LIMIT 1), 'und')
  END
$$;

COMMENT ON FUNCTION routing.language(text) IS 'The language of a text (ISO 639-1), by its first 4,000 characters; und where it cannot be told.';
GRANT EXECUTE ON FUNCTION routing.language(text) TO app, dba_readonly;
