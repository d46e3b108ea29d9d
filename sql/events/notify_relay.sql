-- requires: 000_core
-- NOTIFY serialises commits, so there is one empty notification a statement, and only as a hint: the relay also polls.
CREATE OR REPLACE FUNCTION events.notify_relay()
RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pg_notify('outbox', '');
  RETURN NULL;
END
$$;

COMMENT ON FUNCTION events.notify_relay() IS 'Wakes the relay when a statement has put events into the outbox.';

CREATE OR REPLACE TRIGGER notify_relay
AFTER INSERT ON events.outbox
FOR EACH STATEMENT EXECUTE FUNCTION events.notify_relay();
