-- Policies compare with this function, so it is structure as much as logic; sql/core/current_tenant.sql is its present text.
CREATE FUNCTION core.current_tenant() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('app.tenant_id', true), '')::uuid;
GRANT EXECUTE ON FUNCTION core.current_tenant() TO app, dba_readonly;

CREATE TABLE core.tenants (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  name text NOT NULL CHECK (name <> ''),
  region text NOT NULL DEFAULT 'local',
  time_zone text NOT NULL DEFAULT 'UTC',
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE core.tenants IS 'One company, or one isolated part of it. Every other tenant table leads with its id.';
COMMENT ON COLUMN core.tenants.slug IS 'Short name for people: lower-case letters, digits and hyphens.';
COMMENT ON COLUMN core.tenants.region IS 'The region in which the tenant''s data and models stay.';
COMMENT ON COLUMN core.tenants.time_zone IS 'IANA zone in which the tenant''s budget days and months begin.';

CREATE TABLE core.users (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  subject text NOT NULL CHECK (subject <> '' AND length(subject) <= 255),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, subject)
);
COMMENT ON TABLE core.users IS 'A person or service account, provisioned at its first request.';
COMMENT ON COLUMN core.users.subject IS 'The token''s sub claim: stable within the identity provider.';

-- The functions write by functions only: those of sql/ that act with the owner's rights, each for the current tenant.
GRANT SELECT ON core.tenants, core.users TO app;
