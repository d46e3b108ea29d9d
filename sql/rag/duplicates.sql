-- requires: 015_hybrid_search
-- How its statement is planned is said by rag.search, which calls it.
CREATE OR REPLACE FUNCTION rag.duplicates(p_tenant uuid, p_chunks uuid[], p_wanted integer, p_similarity real)
RETURNS uuid[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
  c_near constant double precision := 0.03;
  c_spare constant integer := 5;
  v_duplicates uuid[];
BEGIN
  v_duplicates := ARRAY(
    WITH passage AS MATERIALIZED (
      SELECT u.chunk_id, u.place, e.embedding
      FROM unnest(p_chunks[:p_wanted + c_spare]) WITH ORDINALITY AS u (chunk_id, place)
      LEFT JOIN rag.embeddings AS e ON e.tenant_id = p_tenant AND e.chunk_id = u.chunk_id
    ), near AS MATERIALIZED (
      -- Vectors are compared quickly, texts slowly. The same text has the same vector, or none.
      SELECT better.chunk_id AS better_id, worse.chunk_id
      FROM passage AS worse
      JOIN passage AS better ON better.place < worse.place
      WHERE better.embedding <=> worse.embedding < c_near OR coalesce(better.embedding, worse.embedding) IS NULL
    )
    SELECT n.chunk_id
    FROM near AS n
    JOIN rag.chunks AS worse ON worse.tenant_id = p_tenant AND worse.id = n.chunk_id
    JOIN rag.chunks AS better ON better.tenant_id = p_tenant AND better.id = n.better_id
    WHERE better.content = worse.content
      -- Two that differ in a number are about different things.
      OR (similarity(better.content, worse.content) >= p_similarity
        AND regexp_replace(better.content, '[^0-9]+', ' ', 'g') = regexp_replace(worse.content, '[^0-9]+', ' ', 'g'))
  );
  IF cardinality(v_duplicates) > c_spare AND cardinality(p_chunks) > p_wanted + c_spare THEN
    RETURN rag.duplicates(p_tenant, p_chunks, cardinality(p_chunks), p_similarity);
  END IF;
  RETURN v_duplicates;
END
$$;

COMMENT ON FUNCTION rag.duplicates(uuid, uuid[], integer, real) IS
  'Of chunks, best first, those that say what a better one says: the same text, or nearly the same words, by trigram similarity, and the same numbers. Looks at as many as it takes to '
  'keep as many as are wanted. Internal: it trusts p_tenant.';
