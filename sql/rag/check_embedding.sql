-- requires: 000_core
CREATE OR REPLACE FUNCTION rag.check_embedding(p_embedding halfvec)
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
  IF vector_dims(p_embedding) <> rag.embedding_width() THEN
    PERFORM ops.raise_problem(
      'embedding_width_mismatch',
      format('The embedding has %s dimensions, and the database was made for %s.', vector_dims(p_embedding), rag.embedding_width()));
  END IF;
END
$$;

COMMENT ON FUNCTION rag.check_embedding(halfvec) IS 'Raises embedding_width_mismatch for a vector of another width than the stored ones; NULL passes. Internal.';
