-- requires: 000_core
-- Whoever stores a row that points to documents it has read: one that is deleted meanwhile would be a foreign key that fails.
CREATE OR REPLACE FUNCTION rag.hold_documents(p_documents uuid[])
RETURNS SETOF uuid
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
  SELECT d.id
  FROM rag.documents AS d
  WHERE d.tenant_id = core.require_tenant() AND d.id = ANY (p_documents)
  ORDER BY d.id
  FOR KEY SHARE;
END
$$;

COMMENT ON FUNCTION rag.hold_documents(uuid[]) IS
  'Those of the current tenant''s documents that are there, and stay until the transaction ends. Whoever just deletes one is waited for, in everybody''s order. Internal.';
