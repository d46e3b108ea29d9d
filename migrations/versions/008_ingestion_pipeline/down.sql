-- 03_buckets
DROP TABLE rag.bucket_objects;
DROP TABLE rag.buckets;

-- 02_access. The policies went with the function that they asked, when the logic of this revision was removed.
ALTER TABLE rag.documents DROP COLUMN received_at, DROP COLUMN stage_at, DROP COLUMN finished_at;
DROP INDEX rag.documents_content;
DROP TABLE rag.collection_grants;
DO $$
DECLARE
  v_name text;
  c_tenant constant text := 'tenant_id = (SELECT core.current_tenant())';
BEGIN
  FOREACH v_name IN ARRAY ARRAY['rag.collections', 'rag.documents', 'rag.contents', 'rag.chunks', 'rag.embeddings'] LOOP
    EXECUTE format('DROP POLICY IF EXISTS tenant ON %s', v_name);
    EXECUTE format('CREATE POLICY tenant ON %s TO app USING (%s) WITH CHECK (%s)', v_name, c_tenant, c_tenant);
    EXECUTE format('COMMENT ON POLICY tenant ON %s IS %L', v_name, 'The functions see and write the rows of the current tenant only.');
  END LOOP;
END
$$;
DROP FUNCTION IF EXISTS rag.readable_collections();
ALTER TABLE rag.collections DROP COLUMN visibility, DROP COLUMN created_by;

-- 01_queue
DROP TABLE IF EXISTS rag.embeddings_next, rag.embeddings_old;
DROP TABLE rag.embedding_queue;
DROP TABLE rag.embedding_models;
DROP INDEX rag.embeddings_text_hash;
ALTER TABLE rag.embeddings DROP COLUMN text_hash;
-- What waited for vectors is received again.
DELETE FROM rag.chunks
WHERE NOT live;
UPDATE rag.documents SET status = 'received', stage = 'received', chunks_total = 0, chunks_embedded = 0, chunks_failed = 0, error_code = NULL, error_detail = NULL
WHERE stage = 'embedding' AND status = 'processing';
UPDATE rag.documents SET error_code = NULL, error_detail = NULL
WHERE status <> 'failed';
ALTER TABLE rag.documents DROP CONSTRAINT documents_cause;
ALTER TABLE rag.documents ADD CONSTRAINT documents_check3 CHECK ((status = 'failed') = (error_code IS NOT NULL));
COMMENT ON COLUMN rag.documents.error_code IS NULL;
