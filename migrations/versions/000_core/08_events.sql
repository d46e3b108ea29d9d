CREATE TABLE events.outbox (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  seq bigint GENERATED ALWAYS AS IDENTITY,
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  type text NOT NULL CHECK (type ~ '^com\.enterprise-agents\.[a-z]+\.[a-z]+\.v[0-9]+$'),
  subject text NOT NULL,
  extensions jsonb NOT NULL DEFAULT '{}',
  data jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  attempts integer NOT NULL DEFAULT 0,
  refusals integer NOT NULL DEFAULT 0,
  available_at timestamptz NOT NULL DEFAULT now(),
  last_status integer,
  last_error text
);
CREATE INDEX outbox_available ON events.outbox (available_at, seq);
CREATE INDEX outbox_tenant ON events.outbox (tenant_id);
COMMENT ON TABLE events.outbox IS 'CloudEvents written by the transactions they tell of, until the broker has accepted them.';
COMMENT ON COLUMN events.outbox.id IS 'The CloudEvent''s id.';
COMMENT ON COLUMN events.outbox.subject IS 'The aggregate''s id.';
COMMENT ON COLUMN events.outbox.extensions IS 'Extension attributes besides tenantid: tier, region, partitionkey, traceparent.';
COMMENT ON COLUMN events.outbox.attempts IS 'How often it was claimed; refusals counts those that the broker answered with an error.';
COMMENT ON COLUMN events.outbox.available_at IS 'Not to be claimed before: a claim moves it to the end of its lease, a failure to the end of its back-off.';

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
  attempts integer NOT NULL,
  last_status integer,
  last_error text NOT NULL,
  died_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_letters_tenant ON events.dead_letters (tenant_id, died_at);
COMMENT ON TABLE events.dead_letters IS 'Events that no broker accepted, and jobs that ran out of attempts, with the last error.';

GRANT SELECT ON events.inbox TO app;
