CREATE TABLE core.api_keys (
  tenant_id uuid NOT NULL,
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  name text NOT NULL CHECK (name <> '' AND length(name) <= 100),
  secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32),
  previous_sha256 bytea CHECK (octet_length(previous_sha256) = 32),
  previous_until timestamptz,
  scopes text[] CHECK (cardinality(scopes) > 0),
  rate_limit_per_minute integer CHECK (rate_limit_per_minute > 0),
  expires_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  rotated_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz,
  FOREIGN KEY (tenant_id, user_id) REFERENCES core.users ON DELETE CASCADE,
  CHECK ((previous_sha256 IS NULL) = (previous_until IS NULL))
);
CREATE INDEX api_keys_user ON core.api_keys (tenant_id, user_id);
ALTER TABLE core.api_keys ADD PRIMARY KEY (tenant_id, id);
COMMENT ON TABLE core.api_keys IS 'Keys by which scripts and service accounts act for a user. The key itself is shown once and never stored.';
COMMENT ON COLUMN core.api_keys.id IS 'Part of the key, with the tenant''s: eak_<tenant id>_<key id>_<secret>, the ids in hexadecimal.';
COMMENT ON COLUMN core.api_keys.secret_sha256 IS 'SHA-256 of the secret, which has 256 random bits: nothing to guess, so that no slow hash is needed.';
COMMENT ON COLUMN core.api_keys.previous_sha256 IS 'The secret before the last rotation, good until previous_until.';
COMMENT ON COLUMN core.api_keys.scopes IS 'What of its user''s rights the key has, by the scopes of core.operations(); NULL: all.';
COMMENT ON COLUMN core.api_keys.rate_limit_per_minute IS 'A window of the key''s own; NULL: it counts in its user''s. Its own budget is in budget.limits.';
COMMENT ON COLUMN core.api_keys.last_used_at IS 'To the minute.';

ALTER TABLE core.api_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON core.api_keys TO app
USING (tenant_id = (SELECT core.current_tenant())) WITH CHECK (tenant_id = (SELECT core.current_tenant()));
COMMENT ON POLICY tenant ON core.api_keys IS 'The functions'' role has no right to the table at all; the policy stands against the day when someone grants one.';
CREATE POLICY dba ON core.api_keys FOR SELECT TO dba_readonly USING (true);
COMMENT ON POLICY dba ON core.api_keys IS 'Database administrators read every tenant.';
-- All but the hashes.
GRANT SELECT (tenant_id, id, user_id, name, previous_until, scopes, rate_limit_per_minute, expires_at, created_at, rotated_at,
              last_used_at, revoked_at) ON core.api_keys TO dba_readonly;
