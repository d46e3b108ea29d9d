-- requires: 014_model_aliases
CREATE OR REPLACE FUNCTION routing.set_alias(p_name text, p_model text, p_collections text[])
RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
  v_missing text;
BEGIN
  PERFORM core.require_operation('aliases.update');
  IF p_name IN ('auto', 'light', 'standard', 'heavy') OR p_name = rag.active_model() ->> 'name'
    OR EXISTS (SELECT FROM routing.models AS m WHERE m.name = p_name) THEN
    PERFORM ops.raise_problem('conflict', format('%s is the name of a model or tier.', p_name));
  ELSIF p_model NOT IN ('auto', 'light', 'standard', 'heavy') AND NOT EXISTS (SELECT FROM routing.models AS m WHERE m.name = p_model) THEN
    PERFORM ops.raise_problem('not_found', format('There is no model or tier named %s.', p_model));
  END IF;
  SELECT n.name INTO v_missing
  FROM unnest(p_collections) AS n (name)
  WHERE NOT EXISTS (SELECT FROM rag.collections AS c WHERE c.tenant_id = v_tenant AND c.name = n.name)
  LIMIT 1;
  IF FOUND THEN
    PERFORM ops.raise_problem('not_found', format('There is no collection named %s.', v_missing), jsonb_build_object('collection', v_missing));
  END IF;
  INSERT INTO routing.aliases AS a (tenant_id, name, model, collections)
  VALUES (v_tenant, p_name, p_model, p_collections)
  ON CONFLICT (tenant_id, name) DO UPDATE SET model = excluded.model, collections = excluded.collections;
  PERFORM compliance.append(v_tenant, 'alias.set', p_name, jsonb_build_object('model', p_model, 'collections', p_collections));
  RETURN jsonb_build_object('name', p_name, 'model', p_model, 'collections', p_collections);
END
$$;

COMMENT ON FUNCTION routing.set_alias(text, text, text[]) IS
  'Makes or changes a model name of the current tenant''s own: what answers, and where each question is searched for. Raises not_found, conflict.';
GRANT EXECUTE ON FUNCTION routing.set_alias(text, text, text[]) TO app;
