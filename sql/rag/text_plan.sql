-- requires: 015_hybrid_search
-- Ranking costs microseconds a chunk, and a common word may be in every chunk. So the rarest words find the candidates, as many words
-- as stay within the bound together; the more common ones only rank these, or find chunks that have several of them. A word that is in
-- most of the chunks says nearly nothing.
CREATE OR REPLACE FUNCTION rag.text_plan(
  p_lexemes text[], p_chunks bigint[], p_total bigint, p_candidates integer,
  OUT any_of text[], OUT all_of text[], OUT scan_for text, OUT scan_chunks bigint
)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_few constant integer := 500;
  -- A long query ranks fewer chunks, because each of its words costs with each.
  v_room double precision := p_candidates * least(1, 12.0 / greatest(cardinality(p_lexemes), 1));
  v_together double precision;
  w record;
BEGIN
  any_of := '{}';
  all_of := '{}';
  FOR w IN SELECT l.lexeme, l.chunks FROM unnest(p_lexemes, p_chunks) AS l (lexeme, chunks) ORDER BY l.chunks, l.lexeme LOOP
    IF scan_for IS NULL AND w.chunks <= v_room AND (w.chunks <= p_total / 2 OR p_total <= c_few) THEN
      any_of := any_of || w.lexeme;
      v_room := v_room - w.chunks;
    ELSIF scan_for IS NULL THEN
      scan_for := w.lexeme;
      scan_chunks := w.chunks;
      all_of := ARRAY[w.lexeme];
      v_together := w.chunks;
    ELSIF cardinality(all_of) = 1 OR v_together > v_room THEN
      all_of := all_of || w.lexeme;
      v_together := v_together * w.chunks / p_total;
    END IF;
  END LOOP;
  IF cardinality(all_of) = 1 OR v_together > v_room THEN
    all_of := '{}';  -- also together they are too many
  END IF;
END
$$;

COMMENT ON FUNCTION rag.text_plan(text[], bigint[], bigint, integer) IS
  'Which lexemes find the candidates of the text leg: any of any_of, or all of all_of; and scan_for, the rarest of the common ones, where these find too few. Internal.';
