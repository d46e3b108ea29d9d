-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.check_expected(p_document rag.documents, p_expected text[])
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF p_expected IS NULL
    OR (p_document.id IS NULL AND cardinality(p_expected) = 0)
    OR (p_document.id IS NOT NULL AND ('*' = ANY (p_expected) OR rag.etag(p_document) = ANY (p_expected))) THEN
    RETURN;
  END IF;
  PERFORM ops.raise_problem(
    'precondition_failed',
    CASE
      WHEN p_document.id IS NULL THEN 'There is no document of that name.'
      WHEN cardinality(p_expected) = 0 THEN 'There is a document of that name already.'
      ELSE 'The document has changed since.'
    END,
    jsonb_strip_nulls(jsonb_build_object('document_id', p_document.id, 'version', p_document.version)));
END
$$;

COMMENT ON FUNCTION rag.check_expected(rag.documents, text[]) IS
  'Raises precondition_failed unless the document of a name is as expected: one of some rag.etag, * any, none at all where the list is empty; NULL expects nothing. Internal.';
