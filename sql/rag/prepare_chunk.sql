-- requires: 015_hybrid_search
-- A trigger and not a generated column, because the language is the document's: to_tsvector is immutable only for a
-- configuration that is known beforehand, and a column of type regconfig would stand in the way of pg_upgrade.
CREATE OR REPLACE FUNCTION rag.prepare_chunk()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  SELECT setweight(rag.to_lexemes(new.language, concat_ws(E'\n', nullif(d.title, ''), nullif(new.heading, ''))), 'A')
    -- Of the name what stands before the extension, which says nothing.
    || setweight(rag.to_lexemes(new.language, regexp_replace(d.name, '\.[[:alnum:]]{1,5}$', '')), 'C')
    || setweight(rag.to_lexemes(new.language, new.content), 'B')
  INTO new.search_text
  FROM rag.documents AS d
  WHERE d.tenant_id = new.tenant_id AND d.id = new.document_id;
  RETURN new;
END
$$;

COMMENT ON FUNCTION rag.prepare_chunk() IS 'A chunk is new or says something else: makes its search_text.';

CREATE OR REPLACE TRIGGER prepare_chunk
BEFORE INSERT OR UPDATE OF heading, content, language ON rag.chunks
FOR EACH ROW EXECUTE FUNCTION rag.prepare_chunk();
