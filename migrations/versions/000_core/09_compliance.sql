CREATE TABLE compliance.audit_heads (
  tenant_id uuid PRIMARY KEY,
  seq bigint NOT NULL,
  hash bytea NOT NULL
);
COMMENT ON TABLE compliance.audit_heads IS 'The last entry of each chain: its lock makes the entries of one tenant follow each other.';
COMMENT ON COLUMN compliance.audit_heads.tenant_id IS 'The tenant, or the nil UUID for the platform''s own chain. No foreign key: the log outlives its tenant.';

CREATE TABLE compliance.audit_log (
  tenant_id uuid NOT NULL,
  seq bigint NOT NULL CHECK (seq >= 1),
  at timestamptz NOT NULL,
  actor text NOT NULL,
  action text NOT NULL CHECK (action ~ '^[a-z_]+(\.[a-z_]+)+$'),
  object text NOT NULL,
  data jsonb NOT NULL,
  previous_hash bytea NOT NULL,
  hash bytea NOT NULL,
  PRIMARY KEY (tenant_id, seq)
);
COMMENT ON TABLE compliance.audit_log IS 'Append-only: who did what that matters. Each entry holds the hash of the one before, so that a change, a gap or an insertion shows.';
COMMENT ON COLUMN compliance.audit_log.tenant_id IS 'The tenant, or the nil UUID for what belongs to none: refused logins, operators.';
COMMENT ON COLUMN compliance.audit_log.actor IS 'user:<id>, key:<id>, a function''s own name, role:<database role>, or unknown.';
COMMENT ON COLUMN compliance.audit_log.action IS 'What was done, for example key.revoked, or the name of an operation that read.';
COMMENT ON COLUMN compliance.audit_log.object IS 'What it was done to: an id, or an operation. Never a name or an address: the log is not erased.';
COMMENT ON COLUMN compliance.audit_log.hash IS 'SHA-256 of compliance.audit_hash over this entry and previous_hash.';
