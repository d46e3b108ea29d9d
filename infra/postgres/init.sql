-- What a new database needs before its first migration, and only a superuser may make. It may be run again at any time:
--   psql -h <host> -U postgres -d enterprise_agents -f infra/postgres/init.sql
-- In the container image of PostgreSQL it lies in /docker-entrypoint-initdb.d, where it is run once, when the volume is new.
-- Passwords come from APP_PASSWORD, RELAY_PASSWORD and DBA_PASSWORD, where these are set; a role without one cannot log in.
\set ON_ERROR_STOP on

CREATE EXTENSION IF NOT EXISTS vector;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
-- For an operator's own scripts: the platform calls nothing of it, and some servers come without it.
SELECT 'CREATE EXTENSION IF NOT EXISTS "uuid-ossp"' FROM pg_available_extensions WHERE name = 'uuid-ossp' \gexec

-- The roles as the migration 000_core makes them where they are not there yet.
SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', wanted.name)
FROM unnest(ARRAY['app', 'relay', 'dba_readonly']) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) \gexec

-- The statement holds a password: it must not reach the server's log.
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
\getenv app_password APP_PASSWORD
\if :{?app_password}
ALTER ROLE app PASSWORD :'app_password';
\endif
\getenv relay_password RELAY_PASSWORD
\if :{?relay_password}
ALTER ROLE relay PASSWORD :'relay_password';
\endif
\getenv dba_password DBA_PASSWORD
\if :{?dba_password}
ALTER ROLE dba_readonly PASSWORD :'dba_password';
\endif
