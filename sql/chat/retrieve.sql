-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION chat.retrieve(p_turn_id uuid, p_question text, p_embedding text, p_collections text[], p_reranked jsonb DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_passages integer;
BEGIN
  -- Of a document that is gone since, or is just being deleted, nothing is quoted.
  IF p_reranked ? 'passages' THEN
    -- What this user's search has found, in the order of the reranking model.
    WITH found AS MATERIALIZED (
      SELECT p.n, f.*
      FROM jsonb_array_elements(p_reranked -> 'passages') WITH ORDINALITY AS p (passage, n)
      CROSS JOIN LATERAL jsonb_to_record(p.passage) AS f (
        chunk_id uuid, document_id uuid, document_name text, heading text, content text, page integer, start_char integer, end_char integer,
        context_before text, context_after text, score double precision, vector_rank integer, text_rank integer, trigram_rank integer,
        rerank_score double precision)
    )
    INSERT INTO chat.passages (
      tenant_id, turn_id, ordinal, document_id, chunk_id, document_name, heading, content, page, start_char, end_char, context_before, context_after,
      score, vector_rank, text_rank, trigram_rank, rerank_score)
    SELECT v_tenant, p_turn_id, row_number() OVER (ORDER BY r.n), r.document_id, r.chunk_id, r.document_name, r.heading, r.content, r.page,
      r.start_char, r.end_char, r.context_before, r.context_after, r.score, r.vector_rank, r.text_rank, r.trigram_rank, r.rerank_score
    FROM found AS r
    WHERE r.document_id = ANY (ARRAY(SELECT rag.hold_documents(ARRAY(SELECT f.document_id FROM found AS f))));
  ELSE
    WITH found AS MATERIALIZED (
      SELECT f.*
      FROM rag.search(p_question, p_embedding::halfvec, p_collections, ops.setting('vector_top_k')::integer) WITH ORDINALITY AS f
    )
    INSERT INTO chat.passages (
      tenant_id, turn_id, ordinal, document_id, chunk_id, document_name, heading, content, page, start_char, end_char, context_before, context_after,
      score, vector_rank, text_rank, trigram_rank)
    SELECT v_tenant, p_turn_id, row_number() OVER (ORDER BY s.ordinality), s.document_id, s.chunk_id, s.document_name, s.heading, s.content, s.page,
      s.start_char, s.end_char, s.context_before, s.context_after, s.score, s.vector_rank, s.text_rank, s.trigram_rank
    FROM found AS s
    WHERE s.document_id = ANY (ARRAY(SELECT rag.hold_documents(ARRAY(SELECT f.document_id FROM found AS f))));
  END IF;
  GET DIAGNOSTICS v_passages = ROW_COUNT;
  RETURN v_passages;
END
$$;

COMMENT ON FUNCTION chat.retrieve(uuid, text, text, text[], jsonb) IS
  'Puts the passages found for a question before its turn''s model; returns how many. p_reranked: {outcome, passages}, rows of rag.search that a reranking model has put in order, each '
  'with its rerank_score; without passages it searches. Raises not_found for a collection. Internal.';
