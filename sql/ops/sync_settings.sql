-- requires: 000_core
CREATE OR REPLACE FUNCTION ops.sync_settings(p_settings jsonb)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO ops.settings AS s (name, value)
  SELECT e.key, e.value FROM jsonb_each_text(p_settings) AS e
  ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = now()
  WHERE s.value <> excluded.value;

  -- A model that the variables no longer name keeps its row, for the history of turns, but answers no more.
  WITH named AS (
    SELECT DISTINCT ON (s.value) s.value AS name, t.tier
    FROM ops.settings AS s
    JOIN (VALUES ('model_light', 'light', 3), ('model_standard', 'standard', 1), ('model_heavy', 'heavy', 2),
                 ('litellm_default_model', 'standard', 4)) AS t (setting, tier, preference) ON t.setting = s.name
    ORDER BY s.value, t.preference
  ), kept AS (
    INSERT INTO routing.models AS m (name, tier)
    SELECT named.name, named.tier FROM named
    ON CONFLICT (name) DO UPDATE SET tier = excluded.tier, enabled = true
  )
  UPDATE routing.models AS m SET enabled = false
  WHERE m.enabled AND NOT EXISTS (SELECT FROM named WHERE named.name = m.name);
END
$$;

COMMENT ON FUNCTION ops.sync_settings(jsonb) IS
  'Takes over the deployment''s variables: {"name": "value"}. Called by every migration run; also seeds routing.models.';
