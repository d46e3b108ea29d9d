-- requires: 000_core
-- Across tenants: a refused request acts for nobody. It can only add entries of two kinds. A tenant is named where it is
-- certain; what somebody merely claims goes to the platform's chain, so that no stranger writes into a tenant's log.
CREATE OR REPLACE FUNCTION compliance.record_refusal(p_kind text, p_object text, p_data jsonb, p_tenant_id uuid DEFAULT NULL, p_subject text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_platform constant uuid := '00000000-0000-0000-0000-000000000000';
  v_tenant uuid := (SELECT t.id FROM core.tenants AS t WHERE t.id = p_tenant_id);
BEGIN
  IF p_kind NOT IN ('login', 'access') THEN
    RAISE EXCEPTION 'no such kind of refusal' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM compliance.append(
    coalesce(v_tenant, c_platform), p_kind || '.refused', left(p_object, 100), p_data,
    coalesce((SELECT 'user:' || u.id FROM core.users AS u WHERE u.tenant_id = v_tenant AND u.subject = p_subject), 'unknown'));
END
$$;

COMMENT ON FUNCTION compliance.record_refusal(text, text, jsonb, uuid, text) IS
  'Audits that a request was refused: kind login (it is not known whose it is) or access (it may not do this), the operation, and the reason as data.';
GRANT EXECUTE ON FUNCTION compliance.record_refusal(text, text, jsonb, uuid, text) TO app;
