-- requires: 000_core
CREATE OR REPLACE FUNCTION compliance.chain_breaks(p_tenant_id uuid)
RETURNS TABLE (seq bigint, reason text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH linked AS (
    SELECT a.seq, a.hash, a.previous_hash, compliance.audit_hash(a) AS computed,
      lag(a.seq, 1, 0::bigint) OVER w AS seq_before, lag(a.hash, 1, ''::bytea) OVER w AS hash_before
    FROM compliance.audit_log AS a
    WHERE a.tenant_id = p_tenant_id
    WINDOW w AS (ORDER BY a.seq)
  )
  SELECT l.seq, 'changed' FROM linked AS l WHERE l.hash <> l.computed
  UNION ALL
  SELECT l.seq, 'entries before it are missing' FROM linked AS l WHERE l.seq <> l.seq_before + 1
  UNION ALL
  SELECT l.seq, 'does not follow the one before' FROM linked AS l WHERE l.seq = l.seq_before + 1 AND l.previous_hash <> l.hash_before
  UNION ALL
  SELECT h.seq, 'the last entry is not the chain''s head'
  FROM compliance.audit_heads AS h
  WHERE h.tenant_id = p_tenant_id
    AND (h.seq, h.hash) NOT IN (SELECT l.seq, l.hash FROM linked AS l ORDER BY l.seq DESC LIMIT 1)
  UNION ALL
  SELECT max(l.seq), 'the chain has no head' FROM linked AS l
  HAVING count(*) > 0 AND NOT EXISTS (SELECT FROM compliance.audit_heads AS h WHERE h.tenant_id = p_tenant_id)
  ORDER BY 1, 2
$$;

COMMENT ON FUNCTION compliance.chain_breaks(uuid) IS
  'Where a chain was tampered with: nothing for one that is whole. Whoever may rewrite the whole chain and its head is found by a head hash that was kept elsewhere.';
GRANT EXECUTE ON FUNCTION compliance.chain_breaks(uuid) TO dba_readonly;
