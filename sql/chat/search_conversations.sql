-- requires: 003_conversation_fields
-- SECURITY DEFINER, because @@ is not leakproof: under row-level security the planner would evaluate it after the policy and could not use
-- its index. In return both legs ask for the tenant and the user, and an unset one raises. The user's id is one of the words that are
-- looked up, so that the index meets nobody else's messages. Ranking costs microseconds a match, so the candidates are bounded.
CREATE OR REPLACE FUNCTION chat.search_conversations(p_query text, p_limit integer DEFAULT 20)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  c_candidates constant integer := 2000;
  c_similar constant real := 0.5;
  c_spelt constant integer := 8;
  c_marks constant text := E'StartSel=\x02, StopSel=\x03, MinWords=10, MaxWords=35';
  v_tenant uuid := core.require_tenant();
  v_user uuid := core.require_user();
  v_words tsquery := websearch_to_tsquery('pg_catalog.english', p_query);
  v_spelt text[];
BEGIN
  -- Plain words may be misspelt; what is quoted or excluded is meant as it stands. They are looked for in titles alone: those of one user
  -- are few.
  IF p_query !~ '["-]' THEN
    v_spelt := ARRAY(
      SELECT w.word FROM regexp_split_to_table(lower(p_query), '[^[:alnum:]]+') AS w (word)
      WHERE length(w.word) BETWEEN 3 AND 64
      LIMIT c_spelt);
  END IF;
  RETURN (
    WITH said AS MATERIALIZED (
      SELECT m.id, m.conversation_id, m.search_text
      FROM chat.messages AS m
      WHERE m.tenant_id = v_tenant AND m.user_id = v_user AND numnode(v_words) > 0
        AND m.search_text @@ (quote_literal(v_user)::tsquery && v_words)
      LIMIT c_candidates
    ), titled AS MATERIALIZED (
      SELECT c.id, c.title, to_tsvector('pg_catalog.english', c.title) AS words,
        (SELECT min(word_similarity(w.word, c.title)) FROM unnest(v_spelt) AS w (word)) AS similarity
      FROM chat.conversations AS c
      WHERE c.tenant_id = v_tenant AND c.user_id = v_user
      ORDER BY c.updated_at DESC, c.id DESC
      LIMIT c_candidates
    ), found AS (
      SELECT s.conversation_id, s.id AS message_id, ts_rank_cd(s.search_text, v_words, 1) AS score FROM said AS s
      UNION ALL
      -- A title says what it is all about.
      SELECT t.id, NULL, CASE WHEN t.words @@ v_words THEN 1 + ts_rank_cd(t.words, v_words, 1) ELSE t.similarity / 100 END
      FROM titled AS t
      WHERE t.words @@ v_words OR t.similarity >= c_similar
    ), best AS (
      SELECT DISTINCT ON (f.conversation_id) f.conversation_id, f.message_id, f.score
      FROM found AS f
      ORDER BY f.conversation_id, f.score DESC, f.message_id
    ), shown AS MATERIALIZED (
      SELECT c, b.message_id, b.score, coalesce(m.content, c.title) AS text
      FROM best AS b
      JOIN chat.conversations AS c ON c.tenant_id = v_tenant AND c.id = b.conversation_id
      LEFT JOIN chat.messages AS m ON m.tenant_id = v_tenant AND m.id = b.message_id
      ORDER BY b.score DESC, c.updated_at DESC, c.id
      LIMIT p_limit
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object(
      'conversation', chat.conversation_document(s.c), 'message_id', s.message_id, 'score', s.score,
      'snippet', (
        -- Between the marks stands what was found: every second piece.
        SELECT jsonb_agg(jsonb_build_object('text', piece.text, 'match', piece.number % 2 = 0) ORDER BY piece.number)
        FROM regexp_split_to_table(
          ts_headline('pg_catalog.english', translate(s.text, E'\x02\x03', ''), v_words, c_marks), E'[\x02\x03]') WITH ORDINALITY AS piece (text, number)
        WHERE piece.text <> '')
    ) ORDER BY s.score DESC, (s.c).updated_at DESC, (s.c).id), '[]')
    FROM shown AS s);
END
$$;

COMMENT ON FUNCTION chat.search_conversations(text, integer) IS
  'The current user''s own conversations, archived ones too, whose titles or messages hold the words (in the syntax of websearch_to_tsquery), or whose titles are spelt alike, best first: '
  '[{conversation: chat.conversation_document, message_id, score, snippet: [{text, match}]}]; message_id NULL: it is the title.';
GRANT EXECUTE ON FUNCTION chat.search_conversations(text, integer) TO app;
