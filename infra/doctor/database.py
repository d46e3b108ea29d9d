"""PostgreSQL: that each login may what it must and no more, and that what is there is what this code needs."""

import asyncio
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row

from infra import database_health
from infra.doctor.clock import skew
from infra.doctor.findings import Finding
from infra.doctor.variables import remedy
from migrations import drift
from shared.settings import Settings, with_scheme

CONNECT_SECONDS = 5
ABOUT_ROLE = """
SELECT current_user AS role, clock_timestamp() AS now, r.rolsuper AS superuser, r.rolbypassrls AS bypasses_policies,
  d.oid::bigint AS database, pg_postmaster_start_time() AS started_at,
  (SELECT o.oid FROM pg_roles AS o WHERE o.rolname = 'ea_owner') AS owner,
  EXISTS (SELECT FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
          WHERE n.nspname = 'ops' AND p.proname = 'readiness') AS migrated
FROM pg_roles AS r JOIN pg_database AS d ON d.datname = current_database() WHERE r.rolname = current_user
"""
RIGHTS = """
SELECT pg_has_role(current_user, 'ea_owner', 'MEMBER') AS owns,
  (SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p') AND pg_get_userbyid(n.nspowner) = 'ea_owner'
     AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')) AS writable,
  (SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p') AND pg_get_userbyid(n.nspowner) = 'ea_owner'
     AND has_table_privilege(c.oid, 'SELECT')) AS readable,
  (SELECT coalesce(bool_or(has_function_privilege(p.oid, 'EXECUTE')), false)
   FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname || '.' || p.proname = %s) AS callable
"""
UNPROTECTED = """
SELECT c.oid::regclass::text AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE pg_get_userbyid(n.nspowner) = 'ea_owner' AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity
  AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')
ORDER BY 1
"""
FUNCTIONS_CALL = "core.enter"
RELAY_CALL = "events.acknowledge"
MIGRATE = "Run `make migrate` (in a cluster: the migration Job) with the code that is deployed"
ROLE_REMEDY = (
    "Log in as the role {role} that the migrations make: ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS;"
    " REVOKE ea_owner FROM {role}"
)

Row = dict[str, Any]


async def check(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Look at the functions' login, the relay's and the one that migrates, and at the database."""
    return await asyncio.to_thread(_check, settings, environ)


def _check(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    about, found = _login("DATABASE_URL", settings.database_dsn(), _functions(settings))
    if about is None:
        return found
    relay = environ.get("RELAY_DATABASE_URL")
    if relay:
        found += _login("RELAY_DATABASE_URL", with_scheme(relay, "postgresql"), _relay)[1]
    elif settings.environment == "prod":
        told = "is not set: the relay has no login of its own here"
        found.append(Finding("RELAY_DATABASE_URL", told, "Add it to the Secret with the role relay", "warning"))
    if settings.migration_database_url is None:
        told = "is not set: neither drift nor the state of the database was looked at"
        found.append(
            Finding("MIGRATION_DATABASE_URL", told, "Set it for this run to the login that migrates", "warning")
        )
    elif about["migrated"]:
        url = settings.migration_url("postgresql")
        migrating, more = _login("MIGRATION_DATABASE_URL", url, _migrating(about))
        found += more
        if migrating is not None and not more:
            found += _state(url)
    return found


def _login(variable: str, url: str, look: Any) -> tuple[Row | None, list[Finding]]:
    """Return what a login sees of its role, None when it does not get in, and what is wrong with it."""
    try:
        with psycopg.connect(url, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_SECONDS) as connection:
            about = connection.execute(ABOUT_ROLE).fetchone()
            if about is None:
                return None, [
                    Finding(variable, "logs in as a role that the server does not list", remedy("DATABASE_URL"))
                ]
            found = look(connection, about)
    except psycopg.OperationalError as error:
        return None, [_unreachable(variable, str(error))]
    except psycopg.Error as error:
        told = f"logs in, and cannot be used: {error.diag.message_primary or error}"
        return None, [Finding(variable, told, MIGRATE)]
    return about, found


def _unreachable(variable: str, told: str) -> Finding:
    """Return what to do about a connection that was not made."""
    first = told.strip().partition("\n")[0] or "no answer"
    remedies = {
        "authentication failed": "Set the role's password in the URL: `ALTER ROLE ... PASSWORD` and the Secret must agree",
        "does not exist": "Make the database and the role (`CREATE DATABASE enterprise_agents`), then `make migrate`",
        "could not translate": "Check the host of the URL: kubectl get svc -n enterprise-agents",
        "failed to resolve": "Check the host of the URL: kubectl get svc -n enterprise-agents",
        "too many clients": "Put PgBouncer in front, lower pool_size, or raise max_connections",
    }
    advice = "Check host and port, that PostgreSQL runs, and that a NetworkPolicy lets this pod reach it"
    return Finding(variable, first, next((r for words, r in remedies.items() if words in told), advice))


def _functions(settings: Settings) -> Any:
    def look(connection: psycopg.Connection[Row], about: Row) -> list[Finding]:
        found = skew("PostgreSQL", about["now"])
        if not about["migrated"] or about["owner"] is None:
            return [*found, Finding("DATABASE_URL", "the database is not migrated", MIGRATE)]
        wrong = _narrow("DATABASE_URL", "app", FUNCTIONS_CALL, connection, about)
        if wrong:
            # What another role sees is no news of the deployment.
            return found + wrong
        found += [
            Finding(
                "row-level security",
                f"is off for {row['name']}",
                f"ALTER TABLE {row['name']} ENABLE ROW LEVEL SECURITY",
            )
            for row in connection.execute(UNPROTECTED)
        ]
        found += _revision(connection)
        return found + _stored(connection, settings)

    return look


def _relay(connection: psycopg.Connection[Row], about: Row) -> list[Finding]:
    if about["owner"] is None:
        return []
    return _narrow("RELAY_DATABASE_URL", "relay", RELAY_CALL, connection, about)


def _narrow(variable: str, role: str, call: str, connection: psycopg.Connection[Row], about: Row) -> list[Finding]:
    """Return what a login may beyond its work, or not."""
    rights = connection.execute(RIGHTS, [call]).fetchone() or {}
    unbound = {
        "is a superuser": about["superuser"],
        "has BYPASSRLS": about["bypasses_policies"],
        "is a member of ea_owner": rights["owns"],
    }
    for how, holds in unbound.items():
        if holds:
            told = f"the role {about['role']} {how}: no policy binds it, and it sees every tenant"
            return [Finding(variable, told, ROLE_REMEDY.format(role=role))]
    if rights["writable"]:
        told = f"the role {about['role']} may write {rights['writable']} tables past the functions of sql/"
        return [
            Finding(variable, told, f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA ... FROM {role}")
        ]
    if not rights["callable"] or (role == "relay" and rights["readable"]):
        told = f"the role {about['role']} has not the rights of the role {role}"
        return [
            Finding(
                variable,
                told,
                f"Log in as the role {role}; if it is that one, its grants were changed: `make db-drift`",
            )
        ]
    return []


def _revision(connection: psycopg.Connection[Row]) -> list[Finding]:
    newest = drift.head()
    row = connection.execute("SELECT max(v.version_num) AS revision FROM public.alembic_version AS v").fetchone()
    revision = row and row["revision"]
    if revision == newest:
        return []
    return [Finding("migrations", f"the database is at revision {revision}, and this code at {newest}", MIGRATE)]


def _stored(connection: psycopg.Connection[Row], settings: Settings) -> list[Finding]:
    """Return the variables that say something else than the database goes by."""
    stored = {row["name"]: row["value"] for row in connection.execute("SELECT s.name, s.value FROM ops.settings AS s")}
    return [
        Finding(name.upper(), f"is {value} here, and the database goes by {stored.get(name)}", MIGRATE)
        for name, value in settings.for_database().items()
        if name in settings.model_fields_set and stored.get(name) != value and name != "litellm_embedding_model"
    ]


def _migrating(functions: Row) -> Any:
    def look(connection: psycopg.Connection[Row], about: Row) -> list[Finding]:
        variable = "MIGRATION_DATABASE_URL"
        if (about["database"], about["started_at"]) != (functions["database"], functions["started_at"]):
            return [
                Finding(variable, "is another database than that of DATABASE_URL", "Name the same host and database")
            ]
        rights = connection.execute(RIGHTS, [FUNCTIONS_CALL]).fetchone() or {}
        if not (about["superuser"] or rights["owns"]):
            told = f"the role {about['role']} may not migrate"
            return [Finding(variable, told, "Log in as a superuser, or GRANT ea_owner to a role that may create roles")]
        return []

    return look


def _state(url: str) -> list[Finding]:
    """Return what `make db-health` finds, but for the revision, which was looked at."""
    state = database_health.run(url)
    return [
        Finding(f["subject"], f["told"], "See `make db-health`", "failure" if f["severity"] == "problem" else "warning")
        for f in state["findings"]
        if f["subject"] != "migration"
    ]
