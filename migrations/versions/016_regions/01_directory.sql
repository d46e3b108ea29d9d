CREATE TABLE core.regions (
  name text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  url text NOT NULL CHECK (url ~ '^https?://[^[:space:]?#]+$'),
  function_urls jsonb NOT NULL DEFAULT '{}' CHECK (
    jsonb_typeof(function_urls) = 'object'
    AND NOT jsonb_path_exists(function_urls, '$.* ? (@.type() != "string" || !(@ like_regex "^https?://[^[:space:]?#]+$"))')),
  policy text NOT NULL DEFAULT 'redirect' CHECK (policy IN ('redirect', 'refuse')),
  changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE core.regions IS 'The deployments of the platform, each a complete one with a database of its own, as this one knows them.';
COMMENT ON COLUMN core.regions.name IS 'The REGION of that deployment.';
COMMENT ON COLUMN core.regions.url IS 'Where its functions are asked; {function} stands for the function''s name, such as chat or openai-api.';
COMMENT ON COLUMN core.regions.function_urls IS 'Where single functions are asked that are elsewhere: {"chat": "https://..."}.';
COMMENT ON COLUMN core.regions.policy IS 'What becomes here of a request of its tenants: redirect or refuse.';

CREATE TABLE core.tenant_homes (
  tenant_id uuid PRIMARY KEY,
  region text NOT NULL REFERENCES core.regions,
  policy text CHECK (policy IN ('redirect', 'refuse')),
  changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX tenant_homes_region ON core.tenant_homes (region);
COMMENT ON TABLE core.tenant_homes IS 'Tenants of other regions: an id and a region, and nothing that tells whose they are. A tenant without a row is at home where core.tenants has it.';
COMMENT ON COLUMN core.tenant_homes.tenant_id IS 'No foreign key: the tenant''s row is in its own region''s database.';
COMMENT ON COLUMN core.tenant_homes.policy IS 'What becomes here of its requests, whatever its region''s policy says; NULL: as that says.';

ALTER TABLE core.tenant_homes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON core.tenant_homes TO app
USING (tenant_id = (SELECT core.current_tenant())) WITH CHECK (tenant_id = (SELECT core.current_tenant()));
COMMENT ON POLICY tenant ON core.tenant_homes IS 'The functions see and write the rows of the current tenant only.';
CREATE POLICY dba ON core.tenant_homes FOR SELECT TO dba_readonly USING (true);
COMMENT ON POLICY dba ON core.tenant_homes IS 'Database administrators read every tenant.';
GRANT SELECT ON core.regions, core.tenant_homes TO dba_readonly;
