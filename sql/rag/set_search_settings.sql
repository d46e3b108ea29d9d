-- requires: 015_hybrid_search
CREATE OR REPLACE FUNCTION rag.set_search_settings(p_settings jsonb, p_tenant_id uuid DEFAULT core.require_tenant())
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := CASE WHEN core.is_operator() THEN p_tenant_id ELSE core.require_tenant() END;
  v_unknown text;
  v_before rag.search_settings;
  v_after rag.search_settings;
  v_constraint text;
  v_range text;
BEGIN
  SELECT min(k) INTO v_unknown
  FROM jsonb_object_keys(p_settings) AS k
  WHERE k IN ('tenant_id', 'updated_at')
    OR NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = 'rag.search_settings'::regclass AND a.attname = k AND a.attnum > 0);
  IF v_unknown IS NOT NULL THEN
    PERFORM ops.raise_problem('invalid_request', format('There is no setting %s of the search.', v_unknown));
  END IF;
  INSERT INTO rag.search_settings (tenant_id) SELECT v_tenant WHERE v_tenant IS NOT NULL ON CONFLICT (tenant_id) DO NOTHING;
  SELECT * INTO STRICT v_before FROM rag.search_settings AS s WHERE s.tenant_id IS NOT DISTINCT FROM v_tenant FOR UPDATE;
  BEGIN
    v_after := jsonb_populate_record(v_before, p_settings);
    DELETE FROM rag.search_settings AS s WHERE s.tenant_id IS NOT DISTINCT FROM v_tenant;
    v_after.updated_at := now();
    INSERT INTO rag.search_settings SELECT v_after.*;
  EXCEPTION
    WHEN check_violation THEN
      -- The constraints are named after their columns, and hold the bounds.
      GET STACKED DIAGNOSTICS v_constraint = CONSTRAINT_NAME;
      SELECT pg_get_constraintdef(c.oid) INTO v_range
      FROM pg_constraint AS c
      WHERE c.conrelid = 'rag.search_settings'::regclass AND c.conname = v_constraint;
      PERFORM ops.raise_problem('invalid_request', format(
        '%s: must be from %s to %s.', substring(v_constraint FROM '^search_settings_(.*)_check$'),
        substring(v_range FROM '>= \(?([0-9.]+)'), substring(v_range FROM '<= \(?([0-9.]+)')));
    WHEN invalid_text_representation OR numeric_value_out_of_range THEN
      PERFORM ops.raise_problem('invalid_request', 'A setting is a number within its range.');
  END;
  RETURN (SELECT to_jsonb(o) - 'tenant_id' FROM rag.settings_of(v_tenant) AS o);
END
$$;

COMMENT ON FUNCTION rag.set_search_settings(jsonb, uuid) IS
  'Changes how the current tenant is searched: {"text_weight": 0.8, ...}, the columns of rag.search_settings; null goes back to the platform''s. A database administrator names a '
  'tenant, or NULL for the platform''s own. Returns what is in force; raises invalid_request.';
GRANT EXECUTE ON FUNCTION rag.set_search_settings(jsonb, uuid) TO app;
