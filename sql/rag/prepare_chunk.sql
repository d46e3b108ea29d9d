-- requires: 000_core
-- A trigger and not a generated column, because the language is the document's: to_tsvector is immutable only for a
-- configuration that is known beforehand, and a column of type regconfig would stand in the way of pg_upgrade.
CREATE OR REPLACE FUNCTION rag.prepare_chunk()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  new.search_text := setweight(to_tsvector(new.language::regconfig, new.heading), 'A')
    || setweight(to_tsvector(new.language::regconfig, new.content), 'B');
  RETURN new;
END
$$;

COMMENT ON FUNCTION rag.prepare_chunk() IS 'A chunk is new or says something else: makes its search_text.';

CREATE OR REPLACE TRIGGER prepare_chunk
BEFORE INSERT OR UPDATE OF heading, content, language ON rag.chunks
FOR EACH ROW EXECUTE FUNCTION rag.prepare_chunk();
