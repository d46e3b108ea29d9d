-- requires: 000_core
CREATE OR REPLACE FUNCTION core.enter_function(p_tenant_id uuid, p_function text)
RETURNS void
LANGUAGE sql
AS $$
  SELECT set_config('app.tenant_id', p_tenant_id::text, true),
    set_config('app.user_id', '', true),
    set_config('app.api_key_id', '', true),
    set_config('app.actor', 'function:' || p_function, true),
    set_config('app.operation', 'function', true),
    set_config('app.roles', '', true)
$$;

COMMENT ON FUNCTION core.enter_function(uuid, text) IS
  'Sets that the rest of the transaction is the work of an event function for a tenant, and for no user: it sees no conversation.';
GRANT EXECUTE ON FUNCTION core.enter_function(uuid, text) TO app;
