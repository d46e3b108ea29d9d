CREATE TABLE inference.jobs (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  turn_id uuid NOT NULL,
  tier text NOT NULL CHECK (tier IN ('light', 'standard', 'heavy')),
  model text NOT NULL,
  status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'completed', 'failed', 'stopped')),
  attempts integer NOT NULL DEFAULT 0 CHECK (attempts BETWEEN 0 AND max_attempts),
  max_attempts integer NOT NULL DEFAULT 3 CHECK (max_attempts > 0),
  generated_tokens integer NOT NULL DEFAULT 0 CHECK (generated_tokens >= 0),
  leased_by text,
  leased_until timestamptz,
  traceparent text CHECK (traceparent ~ '^[0-9a-f]{2}(-[0-9a-f]+){3}$'),
  emitted_at timestamptz NOT NULL DEFAULT now(),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, turn_id),
  FOREIGN KEY (tenant_id, turn_id) REFERENCES chat.turns ON DELETE CASCADE,
  CHECK ((status = 'running') = (leased_until IS NOT NULL))
);
CREATE INDEX jobs_unfinished ON inference.jobs (emitted_at) WHERE status IN ('queued', 'running');
ALTER TABLE inference.jobs ADD PRIMARY KEY (tenant_id, id);
COMMENT ON TABLE inference.jobs IS 'The work of generating one turn''s answer. Inserting a row, or emitting it again, puts a CloudEvent into the outbox.';
COMMENT ON COLUMN inference.jobs.generated_tokens IS 'What the present attempt had generated when it last renewed its lease: what is charged if nobody ever says more.';
COMMENT ON COLUMN inference.jobs.leased_until IS 'Until then the process named in leased_by generates; later anyone may take the job over.';
COMMENT ON COLUMN inference.jobs.emitted_at IS 'When the event that asks for the work was last put into the outbox.';
COMMENT ON COLUMN inference.jobs.traceparent IS 'W3C trace context of the request that began the turn.';

GRANT SELECT ON inference.jobs TO app;
