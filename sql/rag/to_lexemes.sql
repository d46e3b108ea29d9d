-- requires: 015_hybrid_search
-- PostgreSQL's parser reads 'AX-4711-B' as ax, -4711 and b, and an e-mail address as one word. So the parts of what holds letters
-- and punctuation together are read once more, each as a word, and what holds digits too also without the punctuation: the code is
-- found as AX-4711-B, AX 4711 B and AX4711B, and a person by a part of the address.
CREATE OR REPLACE FUNCTION rag.to_lexemes(p_language text, p_text text)
RETURNS tsvector
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
  SELECT to_tsvector(p_language::regconfig, concat_ws(' ', p_text, (
    SELECT string_agg(
      regexp_replace(c.code[1], '[^[:alnum:]]+', ' ', 'g')
      || CASE WHEN c.code[1] ~ '[0-9]' THEN ' ' || regexp_replace(c.code[1], '[^[:alnum:]]+', '', 'g') ELSE '' END, ' ')
    FROM regexp_matches(p_text, '[[:alnum:]]+(?:[-_./@:+#][[:alnum:]]+)+', 'g') AS c (code)
    WHERE c.code[1] ~ '[[:alpha:]]' AND c.code[1] ~ '[0-9_@.]')))
$$;

COMMENT ON FUNCTION rag.to_lexemes(text, text) IS 'The words of a text or a query by a text search configuration, and those within its codes and addresses. Internal.';
