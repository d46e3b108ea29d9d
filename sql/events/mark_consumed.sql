-- requires: 000_core
CREATE OR REPLACE FUNCTION events.mark_consumed(p_consumer text, p_source text, p_id text)
RETURNS boolean
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
  WITH marked AS (
    INSERT INTO events.inbox (consumer, source, id, tenant_id)
    VALUES (p_consumer, p_source, p_id, core.require_tenant())
    ON CONFLICT (tenant_id, consumer, source, id) DO NOTHING
    RETURNING 1
  )
  SELECT EXISTS (SELECT FROM marked)
$$;

COMMENT ON FUNCTION events.mark_consumed(text, text, text) IS
  'Records, in the effect''s own transaction, that a consumer has dealt with an event; false when it had before. Internal.';
