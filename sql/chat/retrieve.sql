-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION chat.retrieve(p_turn_id uuid, p_question text, p_embedding text, p_collections text[])
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  v_passages integer;
BEGIN
  INSERT INTO chat.passages (
    tenant_id, turn_id, ordinal, document_id, chunk_id, document_name, heading, content,
    score, vector_rank, text_rank, trigram_rank)
  SELECT core.require_tenant(), p_turn_id, row_number() OVER (ORDER BY s.score DESC, s.chunk_id),
    s.document_id, s.chunk_id, s.document_name, s.heading, s.content,
    s.score, s.vector_rank, s.text_rank, s.trigram_rank
  FROM rag.search(p_question, p_embedding::halfvec, p_collections, ops.setting('vector_top_k')::integer) AS s;
  GET DIAGNOSTICS v_passages = ROW_COUNT;
  RETURN v_passages;
END
$$;

COMMENT ON FUNCTION chat.retrieve(uuid, text, text, text[]) IS
  'Puts the passages found for a question before its turn''s model; returns how many. Raises not_found for a collection. Internal.';
