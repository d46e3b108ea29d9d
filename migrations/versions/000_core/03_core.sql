-- Policies compare with these two, so they are structure as much as logic; sql/core/ has their present text.
CREATE FUNCTION core.current_tenant() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('app.tenant_id', true), '')::uuid;
CREATE FUNCTION core.current_user_id() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('app.user_id', true), '')::uuid;
GRANT EXECUTE ON FUNCTION core.current_tenant(), core.current_user_id() TO app, dba_readonly;

CREATE DOMAIN core.role AS text
CHECK (value IN ('platform_admin', 'tenant_admin', 'member', 'viewer', 'auditor', 'service'));
COMMENT ON DOMAIN core.role IS 'The roles; what each may do is the table of core.operations().';

CREATE TABLE core.tenants (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  name text NOT NULL CHECK (name <> '' AND length(name) <= 200),
  region text NOT NULL DEFAULT 'local',
  time_zone text NOT NULL DEFAULT 'UTC',
  suspended_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE core.tenants IS 'One company, or one isolated part of it. Every other tenant table leads with its id.';
COMMENT ON COLUMN core.tenants.slug IS 'Short name for people: lower-case letters, digits and hyphens.';
COMMENT ON COLUMN core.tenants.region IS 'The region in which the tenant''s data and models stay.';
COMMENT ON COLUMN core.tenants.time_zone IS 'IANA zone in which the tenant''s budget days and months begin.';
COMMENT ON COLUMN core.tenants.suspended_at IS 'Since then every request for the tenant is refused; its data stays.';

CREATE TABLE core.users (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  subject text NOT NULL CHECK (subject <> '' AND length(subject) <= 255),
  kind text NOT NULL DEFAULT 'person' CHECK (kind IN ('person', 'service')),
  name text,
  email text,
  roles text[] NOT NULL DEFAULT '{}',
  groups text[] NOT NULL DEFAULT '{}',
  token_issued_at timestamptz,
  disabled_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  seen_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, subject)
);
-- Here, and wherever a table is large or changes often, the key is made last: of several indexes that begin with the tenant the
-- planner takes the newest one while no statistics tell them apart, and would read all of a tenant to find one row by its id.
ALTER TABLE core.users ADD PRIMARY KEY (tenant_id, id);
COMMENT ON TABLE core.users IS 'A person, provisioned at the first request, or a service account, which an administrator makes and which acts by API keys alone.';
COMMENT ON COLUMN core.users.subject IS 'The token''s sub claim: stable within the identity provider.';
COMMENT ON COLUMN core.users.roles IS 'The roles that the latest token named; what was granted here stands in core.role_grants.';
COMMENT ON COLUMN core.users.groups IS 'The groups that the latest token named.';
COMMENT ON COLUMN core.users.token_issued_at IS 'When that token was issued: an older one that is used again does not bring former roles back.';
COMMENT ON COLUMN core.users.disabled_at IS 'Since then every request of the user, by token or key, is refused.';
COMMENT ON COLUMN core.users.seen_at IS 'When the user last made a request, to the hour.';

CREATE TABLE core.role_grants (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  role core.role NOT NULL,
  user_id uuid,
  group_name text CHECK (group_name <> '' AND length(group_name) <= 255),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id),
  UNIQUE NULLS NOT DISTINCT (tenant_id, user_id, group_name, role),
  FOREIGN KEY (tenant_id, user_id) REFERENCES core.users ON DELETE CASCADE,
  CHECK (num_nonnulls(user_id, group_name) = 1)
);
CREATE INDEX role_grants_group ON core.role_grants (tenant_id, group_name) WHERE group_name IS NOT NULL;
COMMENT ON TABLE core.role_grants IS 'Roles given here, to a user or to whoever has a group in the token, besides those that the token itself names.';

-- The functions write by functions only: those of sql/ that act with the owner's rights, each for the current tenant.
GRANT SELECT ON core.tenants, core.users, core.role_grants TO app;
