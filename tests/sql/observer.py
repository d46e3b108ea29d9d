"""What two tenants' users can see of each other, by every table and every function that the functions' role may use."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from psycopg import sql

from tests.support import WIDTH, Caller, Database

LEFT_OUT = {
    "core.enter": "the door itself: it acts for whom a token names, and the observer goes in by it",
    "core.enter_function": "the door of the event functions: likewise",
    "inference.sweep": "works for all tenants, and tells the sweeper, which is no user's, what it has ended",
}
"""Functions that are not called, each with the reason."""

SEES_OTHERS_TURNS = {
    "compliance.read_audit": "the log names what was done to which conversation, to administrators and auditors",
    "inference.claim": "a worker's: it acts for the tenant, on the job that an event names",
    "inference.complete": "likewise",
    "inference.fail": "likewise",
    "inference.fall_back": "likewise",
    "inference.renew": "likewise",
}
"""Functions that may name another user's conversation, turn, message or job within the tenant, each with the reason."""

PRIVATE = ("conversations", "turns", "messages", "jobs")
"""Tables whose ids nobody but the owner and the readers of the conversation may see."""

ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")

PROBE = """
CREATE FUNCTION pg_temp.probe(p_enter text, p_query text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
  v_seen text;
  v_message text;
  v_detail text;
  v_hint text;
BEGIN
  EXECUTE p_enter;
  EXECUTE format('SELECT string_agg(r::text, chr(10)) FROM (%s) AS r', p_query) INTO v_seen;
  RAISE EXCEPTION 'undone' USING ERRCODE = 'ZZ001';
EXCEPTION
  WHEN SQLSTATE 'ZZ001' THEN
    RETURN v_seen;
  WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS v_message = MESSAGE_TEXT, v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(chr(10), v_message, v_detail, v_hint);
END $$
"""
"""Enters, looks, and undoes whatever the look has changed; an error is part of what is seen."""

TABLES = """
SELECT c.oid::regclass::text, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE pg_get_userbyid(n.nspowner) = 'ea_owner' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0
  AND NOT a.attisdropped AND has_column_privilege('app', c.oid, a.attnum, 'SELECT')
GROUP BY c.oid
"""
FUNCTIONS = """
SELECT n.nspname || '.' || p.proname, coalesce(p.proargnames[1:p.pronargs], '{}'),
  ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n) ORDER BY n),
  coalesce((regexp_match(p.prosrc, 'require_operation\\(''([a-z.]+)'''))[1], 'me.read'),
  p.provariadic <> 0
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE pg_get_userbyid(n.nspowner) = 'ea_owner' AND has_function_privilege('app', p.oid, 'EXECUTE')
"""
"""With the operation to which a request must be admitted for the function to work."""
IDENTIFIED = """
SELECT a.attrelid::regclass::text FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attname = 'id' AND a.atttypid = 'uuid'::regtype AND c.relkind IN ('r', 'p')
  AND NOT c.relispartition AND pg_get_userbyid(n.nspowner) = 'ea_owner'
  AND EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname = 'tenant_id')
"""
OWNERS = """
SELECT c.id, c.user_id, c.id FROM chat.conversations c
UNION ALL SELECT t.id, t.user_id, t.conversation_id FROM chat.turns t
UNION ALL SELECT m.id, t.user_id, t.conversation_id FROM chat.messages m JOIN chat.turns t ON t.id = m.turn_id
UNION ALL SELECT j.id, t.user_id, t.conversation_id FROM inference.jobs j JOIN chat.turns t ON t.id = j.turn_id
UNION ALL SELECT k.id, k.user_id, NULL FROM core.api_keys k
UNION ALL SELECT u.id, u.id, NULL FROM core.users u
"""
READERS = """
SELECT s.conversation_id, u.id FROM chat.shares s
JOIN core.users u ON u.tenant_id = s.tenant_id AND (s.user_id = u.id OR s.group_name = ANY (u.groups) OR s.whole_tenant)
"""

VALUES: dict[str, str] = {
    "p_worker": "'w'", "p_status": "'completed'", "p_kind": "'access'", "p_time_zone": "'UTC'", "p_chunks": "'[]'",
    "p_content": "'Ten [1].'", "p_model": "NULL", "p_requested": "NULL", "p_embedding": "NULL", "p_traceparent": "NULL",
    "p_collections": "'{default}'", "p_collection": "'default'", "p_name": "'limits.md'", "p_roles": "'{member}'",
    "p_group_name": "NULL", "p_scopes": "NULL", "p_code": "'not_found'", "p_after": "'0'", "p_limit": "100",
    "p_rate_limit_per_minute": "NULL", "p_active": "NULL", "p_platform": "false", "p_action": "NULL",
    "p_query": "'secret limit'", "p_cursor": "NULL", "p_message": "'secret limit'",
    "uuid": "NULL", "uuid[]": "'{}'", "text": "'x'", "text[]": "'{x}'", "integer": "1", "bigint": "1", "boolean": "true",
    "jsonb": "'{}'", "bytea": "sha256('x')", "interval": "'1 minute'", "timestamp with time zone": "'2100-01-01'",
    "halfvec": f"'[1{',0' * (WIDTH - 1)}]'",
}  # fmt: skip
"""What an argument is given, by its name, or else by its type; ids are chosen."""


@dataclass(frozen=True)
class User:
    """Who looks."""

    tenant: UUID
    subject: str
    roles: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Thing:
    """Something with an id."""

    tenant: UUID
    table: str
    id: UUID
    owner: UUID | None
    conversation: UUID | None


@dataclass(frozen=True)
class Look:
    """A query, as a user who was admitted to an operation."""

    user: User
    operation: str
    name: str
    query: str
    passed: frozenset[UUID] = frozenset()


class Observer:
    """Looks at everything with each user's eyes, and reports what no user may see."""

    def __init__(self, operator: Caller, app: Caller, users: Sequence[User]) -> None:
        self.operator, self.app, self.users = operator, app, users
        app.connection.execute(PROBE)
        self.tables: list[tuple[str, str]] = operator.query(TABLES)
        self.functions: list[tuple[str, list[str], list[str], str, bool]] = [
            row for row in operator.query(FUNCTIONS) if row[0] not in LEFT_OUT
        ]
        self.identified = [row[0] for row in operator.query(IDENTIFIED)]

    @classmethod
    @contextmanager
    def watch(cls, database: Database, users: Sequence[User]) -> Iterator["Observer"]:
        """Yield an observer with connections of its own."""
        with database.connect() as operator, database.connect("app") as app:
            yield cls(operator, app, users)

    def things(self) -> list[Thing]:
        """Return what there is of the users' tenants."""
        tenants = list({user.tenant for user in self.users})
        owners = {row[0]: row[1:] for row in self.operator.query(OWNERS)}
        everything = " UNION ALL ".join(f"SELECT tenant_id, '{t}', id FROM {t}" for t in self.identified)
        rows = self.operator.query(
            f"SELECT * FROM ({everything}) AS t (tenant_id, name, id) WHERE tenant_id = ANY (%s)", [tenants]
        )
        return [
            *(Thing(tenant, "core.tenants", tenant, None, None) for tenant in tenants),
            *(Thing(tenant, table, id_, *owners.get(id_, (None, None))) for tenant, table, id_ in rows),
        ]

    def subjects(self) -> dict[tuple[UUID, str], UUID]:
        """Return the id that each user has now; one who was erased has none."""
        return {
            (row[0], row[1]): row[2] for row in self.operator.query("SELECT tenant_id, subject, id FROM core.users")
        }

    def sights(self, schema: str = "") -> list[tuple[Look, str]]:
        """Return every look, or those at one schema, with what it shows."""
        things, subjects = self.things(), self.subjects()
        looks = [
            look
            for user in self.users
            for look in self.looks(user, subjects.get((user.tenant, user.subject)), things)
            if look.name.startswith(schema)
        ]
        seen = self.app.query(
            "SELECT pg_temp.probe(l.door, l.query)"
            " FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS l (door, query, number) ORDER BY l.number",
            [[self.door(look) for look in looks], [look.query for look in looks]],
        )
        return [(look, text or "") for look, (text,) in zip(looks, seen, strict=True)]

    def findings(self) -> list[str]:
        """Return what a user sees and may not."""
        things, subjects = self.things(), self.subjects()
        readers = set(self.operator.query(READERS))
        secrets: dict[User, dict[UUID, Thing]] = {}
        for user in self.users:
            me = subjects.get((user.tenant, user.subject))
            secrets[user] = {
                t.id: t
                for t in things
                if t.tenant != user.tenant
                or (t.table.split(".")[1] in PRIVATE and t.owner != me and (t.conversation, me) not in readers)
            }
        found = []
        for look, text in self.sights():
            for id_ in {UUID(match) for match in ID.findall(text)} - look.passed:
                thing = secrets[look.user].get(id_)
                if thing is None:
                    continue
                if thing.tenant != look.user.tenant:
                    found.append(f"{look.user.subject} sees another tenant's {thing.table} by {look.query}: {text}")
                elif look.name not in SEES_OTHERS_TURNS:
                    found.append(f"{look.user.subject} sees another user's {thing.table} by {look.query}: {text}")
        return found

    @staticmethod
    def door(look: Look) -> str:
        """Return the statement that admits a look's user."""
        user = look.user
        return sql.SQL("SELECT core.enter({}, {}, {}, {}::text[], {}::text[])").format(
            *(sql.Literal(v) for v in (user.tenant, user.subject, look.operation, list(user.roles), list(user.groups)))
        ).as_string()  # fmt: skip

    def looks(self, user: User, me: UUID | None, things: Sequence[Thing]) -> Iterator[Look]:
        """Yield every way in which a user can look."""
        for table, columns in self.tables:
            yield Look(user, "me.read", table, f"SELECT {columns} FROM {table}")
        pools: list[list[Thing]] = [
            [t for t in things if t.tenant == user.tenant and t.owner in {me, None}],
            [t for t in things if t.tenant == user.tenant and t.owner not in {me, None}],
            [t for t in things if t.tenant != user.tenant],
            [],
        ]
        for name, arguments, types, operation, variadic in self.functions:
            takes_ids = any(kind in {"uuid", "uuid[]"} for kind in types)
            for pool in [None, *pools] if takes_ids else [None]:
                passed: set[UUID] = set()
                given = [self.argument(a, kind, pool, passed) for a, kind in zip(arguments, types, strict=True)]
                if variadic:
                    given[-1] = f"VARIADIC {given[-1]}"
                yield Look(user, operation, name, f"SELECT * FROM {name}({', '.join(given)})", frozenset(passed))

    @staticmethod
    def argument(name: str, kind: str, pool: Sequence[Thing] | None, passed: set[UUID]) -> str:
        """Return an argument; ids are the latest of their kind in the pool, or where there is none at random."""
        if pool is None or not kind.startswith("uuid"):
            value = VALUES.get(name) or VALUES.get(kind, "NULL")
            return f"{value}::{kind}"
        noun = name.removeprefix("p_").removesuffix("_id").removesuffix("s")
        fitting = [t for t in pool if t.table.split(".")[1].removesuffix("s").endswith(noun)]
        chosen = (fitting or pool)[-1].id if pool else uuid4()
        passed.add(chosen)
        return f"'{{{chosen}}}'::uuid[]" if kind == "uuid[]" else f"'{chosen}'::uuid"
