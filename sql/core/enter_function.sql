-- requires: 016_regions
CREATE OR REPLACE FUNCTION core.enter_function(p_tenant_id uuid, p_function text, p_region text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- A tenant that nobody knows is left alone: the event may be late, and its tenant deleted.
  -- An event of before this deployment had a name says local, which names no other place.
  IF (p_region IS NOT NULL AND p_region NOT IN (core.own_region(), 'local')) OR EXISTS (
    SELECT FROM core.tenant_homes AS h WHERE h.tenant_id = p_tenant_id AND h.region <> core.own_region()) THEN
    PERFORM ops.raise_problem('foreign_event', 'The event, or its tenant, belongs to another region.',
                              jsonb_build_object('region', p_region));
  END IF;
  PERFORM set_config('app.tenant_id', p_tenant_id::text, true),
    set_config('app.user_id', '', true),
    set_config('app.api_key_id', '', true),
    set_config('app.actor', 'function:' || p_function, true),
    set_config('app.operation', 'function', true),
    set_config('app.roles', '', true);
END
$$;

COMMENT ON FUNCTION core.enter_function(uuid, text, text) IS
  'Sets that the rest of the transaction is the work of an event function for a tenant, and for no user: it sees no conversation. p_region: the event''s. Raises foreign_event.';
GRANT EXECUTE ON FUNCTION core.enter_function(uuid, text, text) TO app;
