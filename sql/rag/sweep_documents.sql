-- requires: 017_long_ingestion
-- A job may wait long for a place, and whoever is asked twice has a second one made: so a large document's event is missed later.
CREATE OR REPLACE FUNCTION rag.sweep_documents()
RETURNS integer
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  WITH stuck AS (
    SELECT d.tenant_id, d.id
    FROM rag.documents AS d
    WHERE ((d.status = 'processing' AND d.leased_until < clock_timestamp())
        OR (d.status = 'received' AND d.emitted_at < clock_timestamp() - CASE WHEN d.large THEN interval '10 minutes' ELSE interval '1 minute' END))
      -- Nobody takes the events of a tenant that has moved away (core.enter_function): they would come back without end.
      AND NOT EXISTS (SELECT FROM core.tenant_homes AS h WHERE h.tenant_id = d.tenant_id AND h.region <> (SELECT core.own_region()))
    ORDER BY d.emitted_at
    LIMIT 100
    FOR UPDATE SKIP LOCKED
  ), given_up AS (
    UPDATE rag.documents AS d
    SET status = 'failed', error_code = 'attempts_exhausted',
        error_detail = format('Indexing was started %s times and never finished.', d.attempts),
        leased_by = NULL, leased_until = NULL, updated_at = now()
    FROM stuck
    WHERE d.tenant_id = stuck.tenant_id AND d.id = stuck.id AND d.attempts >= d.max_attempts
    RETURNING 1
  ), again AS (
    UPDATE rag.documents AS d
    SET status = 'received', large = d.large OR d.attempts >= 3, leased_by = NULL, leased_until = NULL, emitted_at = clock_timestamp(), updated_at = now()
    FROM stuck
    WHERE d.tenant_id = stuck.tenant_id AND d.id = stuck.id AND d.attempts < d.max_attempts
    RETURNING 1
  )
  SELECT (SELECT count(*) FROM given_up)::integer + (SELECT count(*) FROM again)::integer
$$;

COMMENT ON FUNCTION rag.sweep_documents() IS
  'Emits documents of all tenants at home here again whose worker died or whose event was lost, and fails those out of attempts. One that three workers have not finished is '
  'large from then on. Returns how many.';
GRANT EXECUTE ON FUNCTION rag.sweep_documents() TO app;
