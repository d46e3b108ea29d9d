-- requires: 014_model_aliases
CREATE OR REPLACE FUNCTION routing.drop_alias(p_name text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  PERFORM core.require_operation('aliases.update');
  DELETE FROM routing.aliases AS a WHERE a.tenant_id = v_tenant AND a.name = p_name;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such alias.', jsonb_build_object('alias', p_name));
  END IF;
  PERFORM compliance.append(v_tenant, 'alias.dropped', p_name, '{}');
END
$$;

COMMENT ON FUNCTION routing.drop_alias(text) IS 'Takes a model name of the current tenant''s own away; raises not_found.';
GRANT EXECUTE ON FUNCTION routing.drop_alias(text) TO app;
