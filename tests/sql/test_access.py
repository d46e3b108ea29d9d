"""The database's own door: core.enter admits a user to one operation of core.operations(), for one transaction."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.steps import begin, entries, make_key, refused, service_account, user
from tests.support import SETTINGS, Caller, Database, add_document

ROLES = ("platform_admin", "tenant_admin", "member", "viewer", "auditor", "service")
OPERATIONS = "SELECT name, scope, roles, audited FROM core.operations()"

OUTSIDE = {
    # They find out whom a request acts for, or record that it acts for nobody.
    "core.enter", "core.enter_function", "core.authenticate_key", "compliance.record_refusal",
    # Likewise: where the tenant of a request is at home.
    "core.residency", "compliance.record_residency",
    # What everybody is told of oneself.
    "core.whoami", "core.read_tenant",
}  # fmt: skip


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


@contextmanager
def default_role(database: Database, value: str | None) -> Iterator[None]:
    """Set OIDC_DEFAULT_ROLE, or unset it, for a while."""
    with database.connect() as operator:
        before = operator.value("SELECT value FROM ops.settings WHERE name = 'oidc_default_role'")
        operator.run("DELETE FROM ops.settings WHERE name = 'oidc_default_role'")
        if value is not None:
            operator.run("INSERT INTO ops.settings (name, value) VALUES ('oidc_default_role', %s)", [value])
        try:
            yield
        finally:
            operator.run(
                "INSERT INTO ops.settings (name, value) VALUES ('oidc_default_role', %s)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [before],
            )


def grant(
    database: Database, tenant: UUID, role: str, *, user_id: UUID | None = None, group: str | None = None
) -> None:
    with database.connect() as operator:
        operator.run(
            "INSERT INTO core.role_grants (tenant_id, role, user_id, group_name) VALUES (%s, %s, %s, %s)",
            [tenant, role, user_id, group],
        )


def enter(caller: Caller, tenant: UUID, operation: str = "me.read", subject: str = "ann", **arguments: object) -> None:
    caller.call("core.enter", p_tenant_id=tenant, p_subject=subject, p_operation=operation, **arguments)


def roles_of(database: Database, tenant: UUID, subject: str = "ann", **token: object) -> list[str]:
    """Return the roles with which a token acts; the operation is one that anyone may do."""
    with database.connect("app") as app, app.connection.transaction():
        enter(app, tenant, "me.read", subject, **token)
        return [name for name in app.value("SELECT current_setting('app.roles')").split(",") if name]


def test_the_first_token_provisions_its_user_in_its_tenant(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app") as app:
        enter(
            app, tenants[0], p_roles=["member", "viewer"], p_groups=["staff"], p_name="Ann Example", p_email="ann@example.com"
        )  # fmt: skip
        enter(app, tenants[1], p_roles=["auditor"])
    with database.connect() as operator:
        users = operator.query("SELECT tenant_id, subject, kind, name, email, roles, groups FROM core.users")
    assert sorted(users, key=lambda row: tenants.index(row[0])) == [
        (tenants[0], "ann", "person", "Ann Example", "ann@example.com", ["member", "viewer"], ["staff"]),
        (tenants[1], "ann", "person", None, None, ["auditor"], []),
    ]


def test_first_tokens_that_come_at_once_provision_one_user(database: Database, tenants: Sequence[UUID]) -> None:
    def ask(_: int) -> UUID:
        with database.connect("app", tenants[0], "ann", roles=["member"]) as app:
            id_: UUID = app.value("SELECT core.current_user_id()")
            return id_

    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(ask, range(16)))
    with database.connect() as operator:
        assert operator.query("SELECT id FROM core.users") == [(id_,) for id_ in ids]


def test_a_later_token_brings_a_new_name_and_takes_none_away(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app") as app, database.connect() as operator:
        enter(app, tenants[0], p_name="Ann", p_email="ann@example.com")
        enter(app, tenants[0], p_name="Ann Example")
        enter(app, tenants[0])
        assert operator.query("SELECT name, email FROM core.users") == [("Ann Example", "ann@example.com")]


def test_a_role_that_the_next_token_names_no_more_is_gone(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app") as app:
        enter(app, tenants[0], "users.create", p_roles=["tenant_admin"])
        with refused("EA008"):
            enter(app, tenants[0], "users.create", p_roles=["member"])
        enter(app, tenants[0], "chat.ask", p_roles=["member"])


def test_an_older_token_has_no_more_rights_than_the_newest(database: Database, tenants: Sequence[UUID]) -> None:
    at = [datetime(2026, 6, 1, 12, minute, tzinfo=UTC) for minute in range(4)]
    assert roles_of(database, tenants[0], p_roles=["member"], p_issued_at=at[0]) == ["member"]
    # The newest says the same as the one before; it counts nevertheless.
    assert roles_of(database, tenants[0], p_roles=["member"], p_issued_at=at[2]) == ["member"]
    assert roles_of(database, tenants[0], p_roles=["tenant_admin"], p_issued_at=at[1]) == ["member"]
    assert roles_of(database, tenants[0], p_roles=["tenant_admin"], p_issued_at=at[3]) == ["tenant_admin"]
    assert roles_of(database, tenants[0], p_roles=["member"], p_issued_at=at[2]) == ["tenant_admin"]


def test_a_role_granted_to_a_group_lasts_as_long_as_tokens_name_the_group(
    database: Database, tenants: Sequence[UUID]
) -> None:
    grant(database, tenants[0], "auditor", group="revision")
    with database.connect("app") as app:
        with refused("EA008"):
            enter(app, tenants[0], "audit.read", p_roles=["member"], p_groups=["staff"])
        enter(app, tenants[0], "audit.read", p_roles=["member"], p_groups=["staff", "revision"])
        with refused("EA008"):
            enter(app, tenants[0], "audit.read", p_roles=["member"], p_groups=["staff"])
        with refused("EA008"):
            enter(app, tenants[1], "audit.read", p_roles=["member"], p_groups=["revision"])


def test_token_grants_and_groups_add_up(database: Database, tenants: Sequence[UUID]) -> None:
    grant(database, tenants[0], "viewer", user_id=user(database, tenants[0]))
    grant(database, tenants[0], "auditor", group="revision")
    assert roles_of(database, tenants[0], p_roles=["member"], p_groups=["revision"]) == ["auditor", "member", "viewer"]
    assert roles_of(database, tenants[0], "bob", p_roles=["member"]) == ["member"]


def test_names_that_are_no_roles_here_are_ignored(database: Database, tenants: Sequence[UUID]) -> None:
    names = ["offline_access", "ADMIN", "member ", "Tenant_Admin", "viewer", "viewer", ""]
    assert roles_of(database, tenants[0], p_roles=names) == ["viewer"]
    with database.connect() as operator:
        assert operator.query("SELECT roles FROM core.users") == [(["viewer"],)]


def test_the_default_role_is_for_those_whom_nothing_else_gives_one(database: Database, tenants: Sequence[UUID]) -> None:
    grant(database, tenants[0], "auditor", user_id=user(database, tenants[0], "granted"))
    grant(database, tenants[0], "viewer", group="guests")
    with default_role(database, "member"):
        assert roles_of(database, tenants[0]) == ["member"]
        assert roles_of(database, tenants[0], p_roles=["unknown"]) == ["member"]
        assert roles_of(database, tenants[0], p_roles=["viewer"]) == ["viewer"]
        assert roles_of(database, tenants[0], "granted") == ["auditor"]
        assert roles_of(database, tenants[0], p_groups=["guests"]) == ["viewer"]


@pytest.mark.parametrize("value", ["", None])
def test_without_a_default_role_who_has_none_may_do_what_anyone_may(
    database: Database, tenants: Sequence[UUID], value: str | None
) -> None:
    with default_role(database, value), database.connect("app") as app:
        assert roles_of(database, tenants[0]) == []
        for operation in [row[0] for row in app.query(OPERATIONS) if row[2] != ["anyone"]]:
            with refused("EA008"):
                enter(app, tenants[0], operation, p_roles=["anyone"])
        enter(app, tenants[0], "chat.read", p_roles=["viewer"])


def test_a_service_account_has_no_default_role(database: Database, tenants: Sequence[UUID]) -> None:
    key = make_key(database, tenants[0], p_user_id=service_account(database, tenants[0], roles=[]))
    with default_role(database, "member"), database.connect("app") as app:
        assert roles_of(database, tenants[0], "service:robot", p_api_key_id=key.key_id) == []
        with refused("EA008"):
            enter(app, tenants[0], "chat.read", "service:robot", p_api_key_id=key.key_id)


def test_who_is_not_to_be_admitted_is_refused_with_the_reasons_own_code(
    database: Database, tenants: Sequence[UUID]
) -> None:
    alpha, beta = tenants
    service_account(database, alpha)
    for subject in ("ann", "bob"):
        user(database, alpha, subject)
    user(database, beta)
    with database.connect() as operator:
        operator.run("UPDATE core.users SET disabled_at = now() WHERE subject = 'bob'")
        operator.run("UPDATE core.tenants SET suspended_at = now() WHERE id = %s", [beta])
    before = [entries(database, tenant) for tenant in tenants]
    cases: list[tuple[str, UUID, dict[str, object]]] = [
        ("EA001", uuid4(), {}),
        ("EA011", beta, {}),
        ("EA011", beta, {"subject": "a stranger"}),
        ("EA010", alpha, {"subject": "bob", "p_roles": ["tenant_admin"]}),
        ("EA009", alpha, {"subject": "service:robot", "p_roles": ["tenant_admin"]}),
        ("EA009", alpha, {"p_api_key_id": uuid4()}),
        ("EA009", alpha, {"subject": "a stranger", "p_api_key_id": uuid4()}),
        ("EA008", alpha, {"operation": "no.such_operation", "p_roles": list(ROLES)}),
        ("EA008", alpha, {"operation": "", "p_roles": list(ROLES)}),
        ("EA008", alpha, {"operation": None, "p_roles": list(ROLES)}),
        ("EA008", alpha, {"operation": "function", "p_roles": list(ROLES)}),
        ("EA008", alpha, {"subject": "a stranger", "operation": "users.create", "p_roles": ["member"]}),
    ]
    with database.connect("app") as app:
        for sqlstate, tenant, token in cases:
            with app.connection.transaction(), refused(sqlstate), app.connection.transaction():
                enter(app, tenant, **{"operation": "audit.read"} | token)  # type: ignore[arg-type]
            assert [app.value(f"SELECT current_setting('app.{name}', true)") or "" for name in SETTINGS] == [""] * 6
    with database.connect() as operator:
        subjects = {row[0] for row in operator.query("SELECT subject FROM core.users")}
        assert "a stranger" not in subjects, "a refused request leaves nothing behind"
        assert operator.value("SELECT roles FROM core.users WHERE subject = 'bob'") == ["tenant_admin"]
    assert [entries(database, tenant) for tenant in tenants] == before


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_admitted_to_exactly_the_operations_that_list_it(
    database: Database, tenants: Sequence[UUID], role: str
) -> None:
    listed: set[str] = set()
    outcomes: dict[str, str | None] = {}
    with database.connect("app") as app:
        for name, _, roles, _ in app.query(OPERATIONS):
            if {role, "anyone"} & set(roles):
                listed.add(name)
            try:
                enter(app, tenants[0], name, role, p_roles=[role])
            except psycopg.Error as error:
                outcomes[name] = error.sqlstate
            else:
                outcomes[name] = None
    assert outcomes == {name: None if name in listed else "EA008" for name in outcomes}
    assert "me.read" in listed


def test_the_roles_of_the_table_are_the_roles_there_are(database: Database) -> None:
    with database.connect() as operator:
        constraint = operator.value(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contypid = 'core.role'::regtype"
        )
        listed = {role for _, _, roles, _ in operator.query(OPERATIONS) for role in roles}
        known = operator.call("core.known_roles", p_names=[*ROLES, "root", "anyone"])
    assert listed == {*ROLES, "anyone"}
    assert set(known) == set(ROLES), "nobody is given the role of whoever has none"
    assert all(f"'{role}'" in constraint for role in ROLES)
    assert constraint.count("'") == 2 * len(ROLES)


def test_what_was_set_ends_with_the_transaction(database: Database, tenants: Sequence[UUID]) -> None:
    def settings(app: Caller) -> list[str]:
        return [app.value(f"SELECT coalesce(current_setting('app.{name}', true), '')") for name in SETTINGS]

    with database.connect("app") as app:
        with app.connection.transaction():
            enter(app, tenants[0], "chat.ask", p_roles=["member"])
            tenant, user_id, key, actor, operation, roles = settings(app)
            assert (tenant, key, operation, roles) == (str(tenants[0]), "", "chat.ask", "member")
            assert actor == f"user:{user_id}"
            assert app.query("SELECT id FROM core.tenants") == [(tenants[0],)]
        assert settings(app) == [""] * 6
        assert app.query("SELECT id FROM core.tenants") == []
        enter(app, tenants[0], "chat.ask", p_roles=["member"])
        with refused("EA001"):
            begin(app)


def test_an_operation_that_is_audited_leaves_one_entry_and_no_other_leaves_any(
    database: Database, tenants: Sequence[UUID]
) -> None:
    ann = user(database, tenants[0])
    key = make_key(database, tenants[0])
    with database.connect("app") as app:
        operations = app.query(OPERATIONS)
        before = len(entries(database, tenants[0]))
        for name, *_ in operations:
            enter(app, tenants[0], name, p_roles=["platform_admin", "tenant_admin"])
            enter(app, tenants[0], name, p_api_key_id=key.key_id)
    audited = [name for name, _, _, is_audited in operations if is_audited]
    assert {"users.read", "roles.read", "audit.read", "tenants.read"} <= set(audited)
    assert [entry[1:] for entry in entries(database, tenants[0])[before:]] == [
        (actor, name, name, {}) for name in audited for actor in (f"user:{ann}", f"key:{key.key_id}")
    ]


def test_an_event_function_sees_the_tenants_documents_and_no_conversation(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as ann:
        add_document(ann, "limits.md", ["The limit is ten."])
        conversation = begin(ann)["conversation_id"]
    with database.connect("app", tenants[0], operation="chat.share") as ann:
        ann.call("chat.share_conversation", p_conversation_id=conversation, p_whole_tenant=True)
    with database.connect("app") as app, app.connection.transaction():
        app.call("core.enter_function", p_tenant_id=tenants[0], p_function="inference")
        assert app.value("SELECT count(*) FROM rag.documents") == 1
        for table in ("conversations", "turns", "messages", "passages", "shares"):
            assert app.value(f"SELECT count(*) FROM chat.{table}") == 0, table
        assert app.value("SELECT current_setting('app.actor')") == "function:inference"
        assert app.value("SELECT core.has_role('service')") is False
    with database.connect("app") as app, app.connection.transaction(force_rollback=True):
        # What the session was before is forgotten, also within the transaction.
        enter(app, tenants[0], "users.read", p_roles=["tenant_admin"])
        app.call("core.enter_function", p_tenant_id=tenants[0], p_function="inference")
        with refused("EA008"), app.connection.transaction():
            app.call("core.list_users")
        with refused("EA009"), app.connection.transaction():
            begin(app)


def test_a_role_is_what_the_door_has_found_and_an_operator_has_every_one(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app") as app:
        assert app.value("SELECT core.has_role('tenant_admin')") is False
    with database.connect("app", tenants[0], roles=["tenant_admin"]) as app:
        for role in ROLES:
            assert app.call("core.has_role", p_role=role) is (role == "tenant_admin")
    with database.connect() as operator:
        assert operator.value("SELECT core.has_role('platform_admin')") is True


def test_only_the_operation_that_was_admitted_satisfies_a_function(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0], operation="keys.read") as app:
        app.query("SELECT core.require_operation('keys.read')")
        app.query("SELECT core.require_operation('keys.create', 'keys.read')")
        for others in ("'keys.create'", "'keys'", "'keys.read2', 'eys.read'", "NULL"):
            with refused("EA008"):
                app.query(f"SELECT core.require_operation({others})")
    with database.connect("app") as app, refused("EA008"):
        app.query("SELECT core.require_operation('keys.read')")


def test_whatever_administers_is_closed_to_a_request_admitted_to_something_else(
    database: Database, tenants: Sequence[UUID]
) -> None:
    """Each function with the owner's rights, found in the catalog; so a new one that does not ask is found."""
    bob = user(database, tenants[0], "bob")
    values: dict[str, object] = {
        "p_user_id": bob,
        "p_key_id": make_key(database, tenants[0]).key_id,
        "p_tenant_id": tenants[0],
        "uuid": uuid4(),
        "text": "x",
        "text[]": ["member"],
        "bytea": bytes(32),
        "boolean": True,
        "integer": 1,
        "bigint": 1,
        "interval": "1 hour",
        "timestamp with time zone": "2100-01-01T00:00:00Z",
        "jsonb": "{}",
    }
    with database.connect() as operator:
        found: list[tuple[str, list[str], list[str]]] = operator.query(
            """
            SELECT n.nspname || '.' || p.proname, coalesce(p.proargnames[1:p.pronargs], '{}'),
                   ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n) ORDER BY n)
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
            WHERE n.nspname IN ('core', 'compliance') AND p.prosecdef AND has_function_privilege('app', p.oid, 'EXECUTE')
              AND n.nspname || '.' || p.proname <> ALL (%s)
            """,
            [list(OUTSIDE)],
        )
    names = {name for name, _, _ in found}
    assert {"core.erase_user", "core.grant_roles", "core.list_tenants", "compliance.read_audit"} <= names
    everything = [("tenant_admin", "platform_admin", "auditor")]
    outcomes: dict[str, Any] = {}
    for operation, roles in zip(["chat.ask", "me.read"], everything * 2, strict=True):
        with database.connect("app", tenants[0], "ann", operation=operation, roles=roles) as app:
            for name, arguments, types in found:
                given = {a: values.get(a, values[t]) for a, t in zip(arguments, types, strict=True)}
                try:
                    outcomes[name] = app.call(name, **given)
                except psycopg.Error as error:
                    outcomes[name] = error.sqlstate
            assert outcomes == dict.fromkeys(names, "EA008"), operation
    with database.connect("app", tenants[0], "ann", operation="chat.ask") as app:
        conversation = begin(app)["conversation_id"]
        with refused("EA008"):
            app.call("chat.share_conversation", p_conversation_id=conversation, p_whole_tenant=True)
