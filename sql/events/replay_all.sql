-- requires: 000_core
CREATE OR REPLACE FUNCTION events.replay_all(p_type text DEFAULT NULL, p_tenant_id uuid DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_id uuid;
  v_count integer := 0;
BEGIN
  -- Oldest first: the ordered ones of a partition keep their order. One tenant after the other, as each entry locks its log.
  FOR v_id IN
    SELECT d.id
    FROM events.dead_letters AS d
    WHERE (p_type IS NULL OR d.type = p_type) AND (p_tenant_id IS NULL OR d.tenant_id = p_tenant_id)
      AND NOT events.work_ended(d.type, d.tenant_id, d.data)
    ORDER BY d.tenant_id, d.created_at, d.died_at
    FOR UPDATE SKIP LOCKED
  LOOP
    PERFORM events.replay(v_id);
    v_count := v_count + 1;
  END LOOP;
  RETURN v_count;
END
$$;

COMMENT ON FUNCTION events.replay_all(text, uuid) IS
  'events.replay of every dead letter, of one type or tenant where given; those whose work has ended stay. Returns how many. For operators.';
