CREATE TABLE events.outbox (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  tenant_id uuid NOT NULL,
  leased_until timestamptz NOT NULL DEFAULT '-infinity',
  available_at timestamptz NOT NULL DEFAULT now(),
  created_at timestamptz NOT NULL DEFAULT now(),
  attempts integer NOT NULL DEFAULT 0,
  refusals integer NOT NULL DEFAULT 0,
  ordered boolean NOT NULL DEFAULT false,
  type text NOT NULL CHECK (type LIKE 'com.enterprise-agents.%.v%'),
  subject text NOT NULL,
  extensions jsonb NOT NULL DEFAULT '{}',
  data jsonb NOT NULL,
  last_status integer,
  last_error text,
  CHECK (NOT ordered OR extensions ->> 'partitionkey' IS NOT NULL)
) WITH (
  -- A claim changes no indexed column: with room in the page, the new version of a row stays in it and no index is written.
  fillfactor = 50,
  -- Every row is soon deleted: what matters is how many are dead, not their share.
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000
);
CREATE INDEX outbox_due ON events.outbox (available_at, seq) WHERE NOT ordered;
CREATE INDEX outbox_ordered_due ON events.outbox (available_at, seq) WHERE ordered;
CREATE INDEX outbox_partition ON events.outbox (tenant_id, (extensions ->> 'partitionkey'), seq) WHERE ordered;
COMMENT ON TABLE events.outbox IS 'CloudEvents written by the transactions they tell of, until the broker has accepted them.';
COMMENT ON COLUMN events.outbox.seq IS 'The order of emission, and what a relay acknowledges by. Transactions commit in another order.';
COMMENT ON COLUMN events.outbox.id IS 'The CloudEvent''s id.';
COMMENT ON COLUMN events.outbox.tenant_id IS 'Without a foreign key: the row that emits has one, and checking it again would be a fifth of an emission. events.forget_tenant deletes.';
COMMENT ON COLUMN events.outbox.leased_until IS 'Until then a relay has the event in hand. It stands in no index, so that a claim writes none.';
COMMENT ON COLUMN events.outbox.available_at IS 'Not to be claimed before: a failure moves it to the end of its back-off.';
COMMENT ON COLUMN events.outbox.attempts IS 'How often it was claimed; refusals counts those that the broker answered with an error.';
COMMENT ON COLUMN events.outbox.ordered IS 'It leaves only when the earlier ordered events of its tenant and partitionkey have left.';
COMMENT ON COLUMN events.outbox.subject IS 'The aggregate''s id.';
COMMENT ON COLUMN events.outbox.extensions IS 'Extension attributes besides tenantid: tier, region, partitionkey, traceparent.';

CREATE TABLE events.inbox (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  consumer text NOT NULL,
  source text NOT NULL,
  id text NOT NULL,
  processed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, consumer, source, id)
);
COMMENT ON TABLE events.inbox IS 'Events whose effect is committed; written by the effect''s own transaction.';

CREATE TABLE events.dead_letters (
  id uuid PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  type text NOT NULL,
  subject text NOT NULL,
  extensions jsonb NOT NULL,
  data jsonb NOT NULL,
  created_at timestamptz NOT NULL,
  ordered boolean NOT NULL DEFAULT false,
  attempts integer NOT NULL,
  last_status integer,
  last_error text NOT NULL,
  died_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_letters_tenant ON events.dead_letters (tenant_id, died_at);
COMMENT ON TABLE events.dead_letters IS 'Events that no broker accepted or could deliver, and jobs that ran out of attempts, with the last error. events.replay sends one again.';
COMMENT ON COLUMN events.dead_letters.attempts IS 'How often a relay posted the event, or the job was tried; 0 where the broker accepted it and gave up.';
COMMENT ON COLUMN events.dead_letters.last_status IS 'The HTTP status of the last answer; NULL when nobody answered, and for a job.';
COMMENT ON COLUMN events.dead_letters.last_error IS 'The beginning of the last answer''s body, or why there was none.';

GRANT SELECT ON events.inbox TO app;
