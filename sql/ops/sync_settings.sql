-- requires: 000_core
-- A variable that is not set leaves the database as it is: a migration from a bare shell must not bring back the defaults.
CREATE OR REPLACE FUNCTION ops.sync_settings(p_set jsonb, p_defaults jsonb)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_before text[] := (SELECT array_agg(s.value) FROM ops.settings AS s WHERE s.name LIKE 'model\_%' OR s.name LIKE 'litellm\_%');
BEGIN
  INSERT INTO ops.settings (name, value)
  SELECT e.key, e.value FROM jsonb_each_text(p_defaults) AS e
  ON CONFLICT (name) DO NOTHING;
  INSERT INTO ops.settings AS s (name, value)
  SELECT e.key, e.value FROM jsonb_each_text(p_set) AS e
  ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = now()
  WHERE s.value <> excluded.value;

  -- A model that the variables newly name may answer; one that they name no more keeps its row, for the history of turns.
  -- What a database administrator has enabled or disabled otherwise stays so.
  WITH named AS (
    SELECT DISTINCT ON (s.value) s.value AS name, t.tier
    FROM ops.settings AS s
    JOIN (VALUES ('model_light', 'light', 3), ('model_standard', 'standard', 1), ('model_heavy', 'heavy', 2),
                 ('litellm_default_model', 'standard', 4)) AS t (setting, tier, preference) ON t.setting = s.name
    ORDER BY s.value, t.preference
  ), kept AS (
    INSERT INTO routing.models AS m (name, tier)
    SELECT named.name, named.tier FROM named
    ON CONFLICT (name) DO UPDATE
    SET tier = excluded.tier, enabled = m.enabled OR excluded.name <> ALL (coalesce(v_before, '{}'))
  )
  UPDATE routing.models AS m SET enabled = false
  WHERE m.enabled AND m.name = ANY (v_before) AND NOT EXISTS (SELECT FROM named WHERE named.name = m.name);
END
$$;

COMMENT ON FUNCTION ops.sync_settings(jsonb, jsonb) IS
  'Takes over the deployment''s variables, {"name": "value"}: those that are set, and defaults for those never set. Called by every migration run; also seeds routing.models.';
