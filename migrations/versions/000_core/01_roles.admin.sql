-- Roles belong to the cluster, not to the database: they are created when absent and stay after a downgrade,
-- because another database of the same cluster may use them. Passwords are set by the operator, never here.
DO $$
DECLARE
  wanted record;
BEGIN
  FOR wanted IN
    SELECT * FROM (VALUES
      ('ea_owner', 'NOLOGIN', 'Owns every object of the platform; nobody logs in as it.'),
      ('app', 'LOGIN', 'The functions: rights only where a row-level policy covers them.'),
      ('relay', 'LOGIN', 'The relay: claims and acknowledges outbox events, nothing else.'),
      ('dba_readonly', 'LOGIN', 'Reads every table of every tenant; writes nothing.')
    ) AS r (name, login, purpose)
  LOOP
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name) THEN
      EXECUTE format('CREATE ROLE %I %s NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', wanted.name, wanted.login);
      EXECUTE format('COMMENT ON ROLE %I IS %L', wanted.name, wanted.purpose);
    END IF;
  END LOOP;
  EXECUTE format('GRANT ea_owner TO %I', current_user);
END
$$;

CREATE EXTENSION IF NOT EXISTS vector;
CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE SCHEMA core AUTHORIZATION ea_owner;
CREATE SCHEMA chat AUTHORIZATION ea_owner;
CREATE SCHEMA rag AUTHORIZATION ea_owner;
CREATE SCHEMA routing AUTHORIZATION ea_owner;
CREATE SCHEMA inference AUTHORIZATION ea_owner;
CREATE SCHEMA events AUTHORIZATION ea_owner;
CREATE SCHEMA compliance AUTHORIZATION ea_owner;
CREATE SCHEMA ops AUTHORIZATION ea_owner;

COMMENT ON SCHEMA core IS 'Tenants, users, roles and keys, and who the current statement acts for.';
COMMENT ON SCHEMA chat IS 'Conversations, turns, messages, and what each turn retrieved and cited.';
COMMENT ON SCHEMA rag IS 'Collections, documents, chunks, and hybrid search over them.';
COMMENT ON SCHEMA routing IS 'Which model answers a turn, and why.';
COMMENT ON SCHEMA inference IS 'The jobs that generate answers: leases, attempts, results.';
COMMENT ON SCHEMA events IS 'Outgoing CloudEvents (outbox), consumed ones (inbox), and undeliverable ones.';
COMMENT ON SCHEMA compliance IS 'What the platform must be able to prove: the audit log.';
COMMENT ON SCHEMA ops IS 'Deployment settings, the history of the logic, and the errors the platform raises.';

GRANT USAGE ON SCHEMA core, chat, rag, routing, inference, events, compliance, ops TO app, dba_readonly;
GRANT USAGE ON SCHEMA events TO relay;

-- Functions are closed until a file of sql/ grants them, one by one.
ALTER DEFAULT PRIVILEGES FOR ROLE ea_owner REVOKE EXECUTE ON FUNCTIONS FROM public;
