-- requires: 000_core
-- The lock on the chain's head lasts until the transaction ends: callers append last, and nothing on the way of a turn appends.
CREATE OR REPLACE FUNCTION compliance.append(p_tenant_id uuid, p_action text, p_object text, p_data jsonb, p_actor text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_entry compliance.audit_log;
BEGIN
  INSERT INTO compliance.audit_heads (tenant_id, seq, hash) VALUES (p_tenant_id, 0, '') ON CONFLICT DO NOTHING;
  SELECT h.tenant_id, h.seq + 1, clock_timestamp(),
    coalesce(p_actor, nullif(current_setting('app.actor', true), ''), 'role:' || session_user),
    p_action, p_object, p_data, h.hash, ''::bytea
  INTO v_entry
  FROM compliance.audit_heads AS h
  WHERE h.tenant_id = p_tenant_id
  FOR UPDATE;
  v_entry.hash := compliance.audit_hash(v_entry);
  INSERT INTO compliance.audit_log SELECT (v_entry).*;
  UPDATE compliance.audit_heads AS h SET seq = v_entry.seq, hash = v_entry.hash WHERE h.tenant_id = p_tenant_id;
  RETURN v_entry.seq;
END
$$;

COMMENT ON FUNCTION compliance.append(uuid, text, text, jsonb, text) IS
  'Adds an entry to a tenant''s chain, or with the nil UUID to the platform''s; returns its number. Internal: the only writer of the log.';
