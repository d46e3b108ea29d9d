-- requires: 000_core
CREATE OR REPLACE FUNCTION compliance.audit_hash(p_entry compliance.audit_log)
RETURNS bytea
LANGUAGE sql STABLE
RETURN sha256(convert_to(jsonb_build_array(
  p_entry.tenant_id, p_entry.seq, to_char(p_entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  p_entry.actor, p_entry.action, p_entry.object, p_entry.data, encode(p_entry.previous_hash, 'hex'))::text, 'UTF8'));

COMMENT ON FUNCTION compliance.audit_hash(compliance.audit_log) IS
  'SHA-256 of an entry with the hash of the one before: of the JSON array [tenant_id, seq, at in UTC, actor, action, object, data, previous_hash] as PostgreSQL writes jsonb.';
GRANT EXECUTE ON FUNCTION compliance.audit_hash(compliance.audit_log) TO dba_readonly;
