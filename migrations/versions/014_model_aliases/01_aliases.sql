CREATE TABLE routing.aliases (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  name text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._/:-]{0,199}$' AND name NOT IN ('auto', 'light', 'standard', 'heavy')),
  model text NOT NULL CHECK (model <> ''),
  collections text[] NOT NULL CHECK (cardinality(collections) BETWEEN 1 AND 100),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, name)
);
COMMENT ON TABLE routing.aliases IS 'Model names of a tenant''s own by which a client of the OpenAI API gets retrieval without knowing of it.';
COMMENT ON COLUMN routing.aliases.model IS 'What answers: auto, a tier, or a model.';
COMMENT ON COLUMN routing.aliases.collections IS 'Names of the collections that are searched for each question.';

ALTER TABLE routing.aliases ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON routing.aliases TO app
USING (tenant_id = (SELECT core.current_tenant())) WITH CHECK (tenant_id = (SELECT core.current_tenant()));
COMMENT ON POLICY tenant ON routing.aliases IS 'The functions see and write the rows of the current tenant only.';
CREATE POLICY dba ON routing.aliases FOR SELECT TO dba_readonly USING (true);
COMMENT ON POLICY dba ON routing.aliases IS 'Database administrators read every tenant.';
GRANT SELECT ON routing.aliases TO app, dba_readonly;
