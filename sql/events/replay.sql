-- requires: 000_core
CREATE OR REPLACE FUNCTION events.replay(p_id uuid)
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_letter events.dead_letters;
BEGIN
  SELECT * INTO v_letter FROM events.dead_letters AS d WHERE d.id = p_id FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM ops.raise_problem('not_found', 'There is no such dead letter.', jsonb_build_object('id', p_id));
  ELSIF events.work_ended(v_letter.type, v_letter.tenant_id, v_letter.data) THEN
    PERFORM ops.raise_problem(
      'conflict', 'The work that the event asks for has ended: ask the question, or store the document, again.', jsonb_build_object('id', p_id));
  END IF;
  DELETE FROM events.dead_letters AS d WHERE d.id = p_id;
  INSERT INTO events.outbox (id, type, tenant_id, subject, extensions, data, created_at, ordered)
  VALUES (v_letter.id, v_letter.type, v_letter.tenant_id, v_letter.subject, v_letter.extensions, v_letter.data,
          v_letter.created_at, v_letter.ordered);
  PERFORM pg_notify('outbox', '');
  PERFORM compliance.append(v_letter.tenant_id, 'event.replayed', p_id::text, jsonb_build_object('type', v_letter.type));
END
$$;

COMMENT ON FUNCTION events.replay(uuid) IS
  'Puts a dead letter back into the outbox under its own id, behind those that wait. Raises not_found; conflict when its work has ended. For operators: no function of the platform calls it.';
