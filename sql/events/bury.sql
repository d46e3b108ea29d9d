-- requires: 000_core
-- What the broker has accepted and could not deliver. It comes at least once, like every event: its source and id say which.
CREATE OR REPLACE FUNCTION events.bury(
  p_source text, p_id text, p_type text, p_subject text, p_emitted_at timestamptz, p_extensions jsonb, p_data jsonb,
  p_last_status integer, p_last_error text
)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_own boolean := p_source = '/tenants/' || v_tenant AND pg_input_is_valid(p_id, 'uuid');
BEGIN
  -- An event of the outbox keeps its id, so that whoever had seen it after all does nothing when it is sent again. One from
  -- elsewhere, which an outbox cannot emit, gets an id that is always the same, and remembers its own.
  INSERT INTO events.dead_letters
    (id, tenant_id, type, subject, extensions, data, created_at, attempts, last_status, last_error)
  VALUES (
    CASE WHEN v_own THEN p_id::uuid ELSE md5(v_tenant || p_source || ' ' || p_id)::uuid END,
    v_tenant, p_type, p_subject,
    p_extensions || CASE WHEN v_own THEN '{}' ELSE jsonb_build_object('originsource', p_source, 'originid', p_id) END,
    p_data, coalesce(p_emitted_at, now()), 0, p_last_status, left(p_last_error, 2000))
  ON CONFLICT (id) DO NOTHING;
  RETURN FOUND;
EXCEPTION
  WHEN foreign_key_violation THEN
    PERFORM ops.raise_problem('tenant_unset', 'There is no such tenant.');
END
$$;

COMMENT ON FUNCTION events.bury(text, text, text, text, timestamptz, jsonb, jsonb, integer, text) IS
  'Records an event of the current tenant that the broker has given up as a dead letter, once; false when it is one already. Raises tenant_unset for a tenant that does not exist.';
GRANT EXECUTE ON FUNCTION events.bury(text, text, text, text, timestamptz, jsonb, jsonb, integer, text) TO app;
