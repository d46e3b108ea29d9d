-- requires: 000_core
-- By the commonest small words of each language, or by its letters. A guess that costs nothing: routing asks no more of it.
CREATE OR REPLACE FUNCTION routing.language(p_text text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN t.letter ~ '[ぁ-ヿ]' THEN 'ja'
    WHEN t.letter ~ '[一-鿿]' THEN CASE WHEN t.beginning ~ '[ぁ-ヿ]' THEN 'ja' ELSE 'zh' END
    WHEN t.letter ~ '[가-힯]' THEN 'ko'
    WHEN t.letter ~ '[а-яА-Я]' THEN 'ru'
    WHEN t.letter ~ '[؀-ۿ]' THEN 'ar'
    ELSE coalesce((
      SELECT l.code
      FROM unnest(string_to_array(translate(lower(left(t.beginning, 400)), E'.,;:!?¿¡()"''’\n\t', '             '), ' ')) AS w (word)
      JOIN (
        SELECT s.code, unnest(string_to_array(s.words, ' ')) AS word
        FROM (VALUES
          ('en', 'the is are and of to in what how this that which for a an with does do please we our my you i it be on from should would can your hi hello good thanks ok'),
          ('de', 'der die das und ist ein eine einen wie was wir nicht mit den dem bitte welche für auf ich sind zu unsere diese dieses in von im ob sie hallo guten danke'),
          ('fr', 'le la les et est un une des que quelle quel pour dans nous ce cette sur avec du comment de notre mon ça nos je vous ou en bonjour merci'),
          ('es', 'el los las y es una un qué que cómo para en este esta con del por cuál nuestro nuestra de la son al mi se lo hola gracias'),
          ('it', 'il lo gli e è una un che come per di questo questa con del della qual nostro sono la si'),
          ('nl', 'het een en in is van dat wat hoe voor met niet deze wij onze zijn op naar de ik'),
          ('pt', 'o os as e é uma um que como para em este esta com do da qual nosso são não por')
        ) AS s (code, words)
      ) AS l ON l.word = w.word
      GROUP BY l.code
      ORDER BY count(*) DESC, l.code
      LIMIT 1), 'und')
  END
  FROM (SELECT left(p_text, 4000) AS beginning, CASE WHEN octet_length(p_text) > length(p_text) THEN substring(left(p_text, 4000), '[ぁ-ヿ一-鿿가-힯]|[а-яА-Я](?=[а-яА-Я]{2})|[؀-ۿ](?=[؀-ۿ]{2})') END AS letter OFFSET 0) AS t
$$;

COMMENT ON FUNCTION routing.language(text) IS 'The language of a text (ISO 639-1), by its letters and its first 400 characters; und where it cannot be told.';
GRANT EXECUTE ON FUNCTION routing.language(text) TO app, dba_readonly;
