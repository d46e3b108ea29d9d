-- requires: 000_core
-- NOTIFY serialises commits, so there is one empty notification a transaction, and only as a hint: the relay also polls.
CREATE OR REPLACE FUNCTION events.emit(
  p_type text, p_tenant_id uuid, p_subject text, p_extensions jsonb, p_data jsonb, p_ordered boolean DEFAULT false
)
RETURNS uuid
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_id uuid := gen_random_uuid();
BEGIN
  INSERT INTO events.outbox (id, type, tenant_id, subject, extensions, data, ordered)
  VALUES (v_id, p_type, p_tenant_id, p_subject, jsonb_strip_nulls(p_extensions), p_data, p_ordered);
  PERFORM pg_notify('outbox', '');
  RETURN v_id;
END
$$;

COMMENT ON FUNCTION events.emit(text, uuid, text, jsonb, jsonb, boolean) IS
  'Puts a CloudEvent into the outbox, in the transaction it tells of. p_ordered: it leaves after the earlier ordered ones of its tenant and partitionkey. Internal: called by triggers only.';
