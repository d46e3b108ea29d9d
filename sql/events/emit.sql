-- requires: 000_core
CREATE OR REPLACE FUNCTION events.emit(
  p_type text, p_tenant_id uuid, p_subject text, p_extensions jsonb, p_data jsonb
)
RETURNS uuid
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO events.outbox (type, tenant_id, subject, extensions, data)
  VALUES (p_type, p_tenant_id, p_subject, jsonb_strip_nulls(p_extensions), p_data)
  RETURNING id
$$;

COMMENT ON FUNCTION events.emit(text, uuid, text, jsonb, jsonb) IS
  'Puts a CloudEvent into the outbox, in the transaction it tells of. Internal: called by triggers only.';
