"""The audit log: nobody changes it unseen, nobody reads it without a right, and it names nobody."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from shared.api_keys import ApiKey
from tests.sql.steps import PLATFORM, act, begin, entries, make_key, refused, service_account, user
from tests.support import Caller, Database, add_document

INTACT: list[Any] = []


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


def refuse(app: Caller, tenant: UUID | None, **arguments: Any) -> None:
    """Append an entry, as the functions do where they refuse a request."""
    given = {"p_kind": "access", "p_object": "users.read", "p_data": json.dumps({"code": "forbidden"})} | arguments
    app.call("compliance.record_refusal", p_tenant_id=tenant, **given)


@pytest.fixture
def chain(database: Database, tenants: Sequence[UUID]) -> UUID:
    """A tenant whose chain has six entries."""
    with database.connect("app") as app:
        for number in range(6):
            refuse(app, tenants[0], p_data=json.dumps({"number": number}))
    return tenants[0]


def breaks(database: Database, tenant: UUID) -> list[Any]:
    with database.connect("dba_readonly") as dba:
        return dba.rows("compliance.chain_breaks", p_tenant_id=tenant)


def tamper(database: Database, *statements: str, **values: object) -> None:
    """Change the log as only a superuser can who switches its triggers off."""
    with database.connect() as operator:
        operator.run("SET session_replication_role = replica")
        for statement in statements:
            assert operator.run(statement, values) > 0, statement


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE compliance.audit_log SET data = '{}'",
        "UPDATE compliance.audit_log SET data = '{}' WHERE seq = -1",
        "DELETE FROM compliance.audit_log WHERE seq = 6",
        "TRUNCATE compliance.audit_log",
        "MERGE INTO compliance.audit_log AS a USING compliance.audit_log AS b ON a.seq = b.seq WHEN MATCHED THEN DELETE",
    ],
)
@pytest.mark.parametrize("role", ["app", "relay", "dba_readonly", "owner", "superuser"])
def test_nobody_changes_what_was_logged(database: Database, chain: UUID, role: str, statement: str) -> None:
    before = entries(database, chain)
    with database.connect(role if role in {"app", "relay", "dba_readonly"} else "postgres") as caller:
        if role == "owner":
            caller.run("SET ROLE ea_owner")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            caller.run(statement)
    assert entries(database, chain) == before
    assert len(before) == 6


@pytest.mark.parametrize("role", ["app", "relay", "dba_readonly"])
def test_no_role_of_the_platform_writes_into_the_log_or_its_heads(database: Database, chain: UUID, role: str) -> None:
    assert chain
    with database.connect(role) as caller:
        for statement in (
            "INSERT INTO compliance.audit_log SELECT * FROM compliance.audit_log",
            "INSERT INTO compliance.audit_heads VALUES (gen_random_uuid(), 0, '')",
            "UPDATE compliance.audit_heads SET seq = 0",
            "DELETE FROM compliance.audit_heads",
            "SELECT compliance.append(gen_random_uuid(), 'x.y', 'z', '{}')",
            "ALTER TABLE compliance.audit_log DISABLE TRIGGER append_only",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                caller.query(statement)


COPIED = "at, actor, action, object, data, hash, sha256('x')"
ENTRY = "compliance.audit_log WHERE tenant_id = %(chain)s AND seq"
REHASH = (
    "UPDATE compliance.audit_log AS a SET hash = compliance.audit_hash(a) WHERE a.tenant_id = %(chain)s AND a.seq = 3"
)
UNLINKED = "does not follow the one before"
NO_HEAD = "the last entry is not the chain's head"
TAMPERINGS: dict[str, tuple[list[str], list[tuple[int, str]]]] = {
    "changed data": (
        ["UPDATE compliance.audit_log SET data = '{\"number\": 7}' WHERE tenant_id = %(chain)s AND seq = 3"],
        [(3, "changed")],
    ),
    "changed data and hash": (
        ["UPDATE compliance.audit_log SET data = '{}' WHERE tenant_id = %(chain)s AND seq = 3", REHASH],
        [(4, UNLINKED)],
    ),
    "changed data and hash of the last": (
        [
            "UPDATE compliance.audit_log SET data = '{}' WHERE tenant_id = %(chain)s AND seq = 6",
            REHASH.replace("3", "6"),
        ],
        [(6, NO_HEAD)],
    ),
    "changed hash": (
        ["UPDATE compliance.audit_log SET hash = sha256('x') WHERE tenant_id = %(chain)s AND seq = 3"],
        [(3, "changed"), (4, UNLINKED)],
    ),
    "changed link": (
        ["UPDATE compliance.audit_log SET previous_hash = sha256('x') WHERE tenant_id = %(chain)s AND seq = 3", REHASH],
        [(3, UNLINKED), (4, UNLINKED)],
    ),
    "deleted in the middle": ([f"DELETE FROM {ENTRY} = 3"], [(4, "entries before it are missing")]),
    "deleted at the beginning": ([f"DELETE FROM {ENTRY} = 1"], [(2, "entries before it are missing")]),
    "deleted at the end": ([f"DELETE FROM {ENTRY} = 6"], [(6, NO_HEAD)]),
    "deleted altogether": ([f"DELETE FROM {ENTRY} > 0"], [(6, NO_HEAD)]),
    "deleted and moved up": (
        [f"DELETE FROM {ENTRY} = 6", "UPDATE compliance.audit_log SET seq = 6 WHERE tenant_id = %(chain)s AND seq = 5"],
        [(6, "changed"), (6, "entries before it are missing"), (6, NO_HEAD)],
    ),
    "inserted at the end": (
        [
            f"INSERT INTO compliance.audit_log SELECT tenant_id, 7, {COPIED} FROM {ENTRY} = 6",
            REHASH.replace("3", "7"),
        ],
        [(6, NO_HEAD)],
    ),
    "inserted in the middle": (
        [
            "UPDATE compliance.audit_log SET seq = seq + 100 WHERE tenant_id = %(chain)s AND seq > 3",
            "UPDATE compliance.audit_log SET seq = seq - 99 WHERE tenant_id = %(chain)s AND seq > 100",
            f"INSERT INTO compliance.audit_log SELECT tenant_id, 4, {COPIED} FROM {ENTRY} = 3",
            REHASH.replace("3", "4"),
        ],
        [(5, "changed"), (5, UNLINKED), (6, "changed"), (6, NO_HEAD), (7, "changed")],
    ),
    "swapped": (
        [
            "UPDATE compliance.audit_log SET seq = 100 WHERE tenant_id = %(chain)s AND seq = 3",
            "UPDATE compliance.audit_log SET seq = 3 WHERE tenant_id = %(chain)s AND seq = 4",
            "UPDATE compliance.audit_log SET seq = 4 WHERE tenant_id = %(chain)s AND seq = 100",
        ],
        [(3, "changed"), (3, UNLINKED), (4, "changed"), (4, UNLINKED), (5, UNLINKED)],
    ),
    "head removed": (
        ["DELETE FROM compliance.audit_heads WHERE tenant_id = %(chain)s"],
        [(6, "the chain has no head")],
    ),
    "head set back": (
        [
            ("UPDATE compliance.audit_heads AS h SET seq = a.seq, hash = a.hash"
            " FROM compliance.audit_log AS a WHERE h.tenant_id = %(chain)s AND a.tenant_id = h.tenant_id AND a.seq = 5")
        ],
        [(5, NO_HEAD)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampering_shows(database: Database, chain: UUID, tampering: str) -> None:
    statements, found = TAMPERINGS[tampering]
    assert breaks(database, chain) == INTACT
    tamper(database, *statements, chain=chain)
    assert breaks(database, chain) == sorted(found)
    answer = act(database, chain, "audit.verify", "compliance.verify_audit")
    assert answer["intact"] is False
    assert [(entry["seq"], entry["reason"]) for entry in answer["breaks"]] == breaks(database, chain)


def test_a_change_of_any_column_shows(database: Database, chain: UUID, tenants: Sequence[UUID]) -> None:
    values = {
        "tenant_id": f"'{tenants[1]}'",
        "seq": "99",
        "at": "at + interval '1 microsecond'",
        "actor": "'user:x'",
        "action": "'access.granted'",
        "object": "object || ' '",
        "data": "data || '{\"x\": null}'",
        "previous_hash": "sha256('x')",
        "hash": "sha256('x')",
    }
    with database.connect() as operator:
        columns = operator.query(
            "SELECT attname FROM pg_attribute"
            " WHERE attrelid = 'compliance.audit_log'::regclass AND attnum > 0 AND NOT attisdropped"
        )
        assert {row[0] for row in columns} == set(values), "a new column must be hashed, and be here"
        operator.run("SET session_replication_role = replica")
        for column, value in values.items():
            for seq in (1, 4, 6):
                with operator.connection.transaction(force_rollback=True):
                    operator.run(
                        f"UPDATE compliance.audit_log SET {column} = {value} WHERE tenant_id = %s AND seq = %s",
                        [chain, seq],
                    )
                    found = operator.rows("compliance.chain_breaks", p_tenant_id=chain)
                assert found, (column, seq)
    assert breaks(database, chain) == INTACT


def test_entries_that_come_at_once_follow_each_other(database: Database, tenants: Sequence[UUID]) -> None:
    def append(thread: int) -> None:
        with database.connect("app") as app:
            for number in range(25):
                refuse(app, tenants[thread % 2], p_data=json.dumps({"thread": thread, "number": number}))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(append, range(8)))
    for tenant in tenants:
        assert [entry[0] for entry in entries(database, tenant)] == list(range(1, 101))
        assert breaks(database, tenant) == INTACT
        answer = act(database, tenant, "audit.verify", "compliance.verify_audit")
        with database.connect() as operator:
            last = operator.value(
                "SELECT encode(hash, 'hex') FROM compliance.audit_log WHERE tenant_id = %s AND seq = 100", [tenant]
            )
            unordered = operator.value(
                "SELECT count(*) FROM compliance.audit_log a JOIN compliance.audit_log b ON b.tenant_id = a.tenant_id"
                " AND b.seq = a.seq + 1 AND b.at < a.at WHERE a.tenant_id = %s",
                [tenant],
            )
        assert answer == {"intact": True, "breaks": [], "entries": 100, "head": last}
        assert unordered == 0


def test_what_is_rolled_back_leaves_no_entry_and_no_gap(database: Database, chain: UUID) -> None:
    with database.connect("app") as app:
        with app.connection.transaction(force_rollback=True):
            refuse(app, chain)
        refuse(app, chain)
    assert [entry[0] for entry in entries(database, chain)] == list(range(1, 8))
    assert breaks(database, chain) == INTACT


def test_a_chain_verifies_the_same_whatever_the_session_is_set_to(database: Database, tenants: Sequence[UUID]) -> None:
    data = {
        "at": "2026-03-29T01:30:00Z",
        "numbers": [1.10, 1e20, -0.0, 123456789012345678],
        "text": 'é\u2028"\\',
        "z": 1,
        "a": 2,
    }
    with database.connect("app") as app:
        app.run("SET TimeZone = 'Asia/Kathmandu'")
        refuse(app, tenants[0], p_data=json.dumps(data))
        app.run("SET TimeZone = 'America/St_Johns'")
        app.run("SET DateStyle = 'SQL, DMY'")
        refuse(app, tenants[0], p_data=json.dumps(data))
    make_key(database, tenants[0], p_expires_at="2100-01-01T00:00:00Z")
    answers = []
    for settings in (
        {},
        {"TimeZone": "Pacific/Kiritimati", "DateStyle": "German, DMY", "IntervalStyle": "iso_8601"},
        {
            "TimeZone": "America/Los_Angeles",
            "DateStyle": "SQL, MDY",
            "extra_float_digits": "-15",
            "bytea_output": "escape",
        },
        {"standard_conforming_strings": "off", "client_encoding": "LATIN1", "search_path": "", "lc_time": "C"},
    ):
        with database.connect("app", tenants[0], operation="audit.verify") as app:
            for name, value in settings.items():
                app.query("SELECT set_config(%s, %s, false)", [name, value])
            answers.append(app.call("compliance.verify_audit"))
    assert answers[0]["intact"] is True
    assert answers[0]["entries"] == 3
    assert all(answer == answers[0] for answer in answers)


def test_a_chain_is_its_tenants_own(database: Database, chain: UUID, tenants: Sequence[UUID]) -> None:
    with database.connect("app") as app:
        refuse(app, tenants[1])
    tamper(database, f"DELETE FROM {ENTRY} = 2", chain=chain)
    assert breaks(database, chain) != INTACT
    assert breaks(database, tenants[1]) == INTACT
    answer = act(database, tenants[1], "audit.verify", "compliance.verify_audit")
    assert (answer["intact"], answer["entries"]) == (True, 1)
    read = act(database, tenants[1], "audit.read", "compliance.read_audit")
    assert [(entry["seq"], entry["action"]) for entry in read] == [(1, "access.refused"), (2, "audit.read")]


def test_the_log_outlives_its_tenant(database: Database, chain: UUID) -> None:
    before = entries(database, chain)
    with database.connect() as operator:
        operator.run("DELETE FROM core.tenants WHERE id = %s", [chain])
    assert entries(database, chain) == before
    assert breaks(database, chain) == INTACT


def test_a_refusal_goes_to_the_log_of_the_tenant_that_is_known_or_else_to_the_platforms(
    database: Database, tenants: Sequence[UUID]
) -> None:
    ann = user(database, tenants[0])
    platforms = len(entries(database, PLATFORM))
    with database.connect("app") as app:
        refuse(app, tenants[0], p_subject="ann")
        refuse(app, tenants[0], p_kind="login", p_object="x" * 300, p_subject="a stranger")
        refuse(app, tenants[1], p_subject="ann")
        refuse(app, uuid4(), p_kind="login", p_object="me.read", p_subject="ann")
        refuse(app, None, p_kind="login", p_object="me.read")
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            refuse(app, tenants[0], p_kind="key.revoked")
    data = {"code": "forbidden"}
    assert entries(database, tenants[0]) == [
        (1, f"user:{ann}", "access.refused", "users.read", data),
        (2, "unknown", "login.refused", "x" * 100, data),
    ]
    assert entries(database, tenants[1]) == [(1, "unknown", "access.refused", "users.read", data)]
    assert [entry[1:] for entry in entries(database, PLATFORM)[platforms:]] == [
        ("unknown", "login.refused", "me.read", data)
    ] * 2
    assert breaks(database, PLATFORM) == INTACT


READERS = {"platform_admin": {True}, "tenant_admin": {False}, "auditor": {False}}


@pytest.mark.parametrize("role", ["platform_admin", "tenant_admin", "auditor", "member", "viewer", "service"])
@pytest.mark.parametrize(
    ("operation", "function"),
    [("audit.read", "compliance.read_audit"), ("audit.verify", "compliance.verify_audit")],
)
def test_a_chain_is_for_those_whose_it_is(
    database: Database, chain: UUID, role: str, operation: str, function: str
) -> None:
    for platform in (False, True):
        if platform in READERS.get(role, set()):
            act(database, chain, operation, function, roles=[role], p_platform=platform)
        else:
            with refused("EA008"):
                act(database, chain, operation, function, roles=[role], p_platform=platform)
    if role in READERS:
        other = {"audit.read": "audit.verify", "audit.verify": "audit.read"}[operation]
        with refused("EA008"):
            act(database, chain, other, function, roles=[role], p_platform=role == "platform_admin")


def test_entries_are_read_page_by_page_and_by_action(database: Database, chain: UUID) -> None:
    make_key(database, chain)
    with database.connect("app", chain, operation="audit.read") as app:
        everything = app.call("compliance.read_audit", p_limit=1000)
        assert [entry["seq"] for entry in everything] == list(range(1, 9))
        assert app.call("compliance.read_audit", p_after=3, p_limit=2) == everything[3:5]
        assert app.call("compliance.read_audit", p_action="key.created") == everything[6:7]
        assert set(everything[0]) == {"seq", "at", "actor", "action", "object", "data", "hash"}


NAMES = {
    "subject": "Sentinel-Subject",
    "name": "Sentinel Name",
    "email": "sentinel@example.com",
    "key": "Sentinel Key",
    "account": "Sentinel Account",
    "admin": "Sentinel-Admin",
    "tenant": "Sentinel Tenant",
    "question": "Sentinel question?",
}
"""What must not stand in a log that is never erased."""


class Scene:
    """Ann, who changes things; Bob, whom they are done to; and what both have."""

    def __init__(self, database: Database, tenant: UUID) -> None:
        self.database, self.tenant = database, tenant
        with database.connect("app") as app:
            app.call(
                "core.enter",
                p_tenant_id=tenant,
                p_subject=NAMES["subject"],
                p_operation="me.read",
                p_roles=["member"],
                p_name=NAMES["name"],
                p_email=NAMES["email"],
            )
        self.bob = user(database, tenant, NAMES["subject"], ["member"])
        self.ann = user(database, tenant)
        self.key = make_key(database, tenant, p_name=NAMES["key"]).key_id
        with database.connect("app", tenant) as app:
            self.conversation = begin(app, NAMES["question"])["conversation_id"]
        with database.connect() as operator:
            self.other: UUID = operator.call("core.provision_tenant", p_slug=f"t-{uuid4()}", p_name="Other")

    def act(self, operation: str, function: str, **arguments: Any) -> Any:
        return act(
            self.database, self.tenant, operation, function, roles=["tenant_admin", "platform_admin"], **arguments
        )


def set_limit(scene: Scene) -> Any:
    """Give Bob a limit for the day."""
    limit = {"p_scope": "user", "p_holder_id": scene.bob, "p_period": "day"}
    return scene.act("budgets.update", "budget.set_limit", **limit, p_tokens=1000)


def put_collection(scene: Scene) -> Any:
    """Make a collection."""
    return scene.act("collections.update", "rag.put_collection", p_name="contracts", p_visibility="restricted")


def put_bucket(scene: Scene) -> Any:
    """Say that a bucket's objects become documents."""
    bucket = {"p_bucket": "papers", "p_prefix": "", "p_collection": "default", "p_tenant_id": scene.tenant}
    return scene.act("buckets.update", "rag.put_bucket", **bucket)


def delete_document(scene: Scene) -> Any:
    """Delete a document."""
    with scene.database.connect("app", scene.tenant) as app:
        document = add_document(app, "a.md", ["Text."])
    return scene.act("documents.delete", "rag.delete_document", p_document_id=document)


def set_alias(scene: Scene) -> Any:
    """Give the tenant a model name of its own."""
    with scene.database.connect("app", scene.tenant) as app:
        add_document(app, "a.md", ["Text."])
    alias = {"p_name": "handbook", "p_model": "standard", "p_collections": ["default"]}
    return scene.act("aliases.update", "routing.set_alias", **alias)


CHANGES: dict[str, tuple[list[str], Callable[[Scene], Any]]] = {
    "core.create_key": (
        ["key.created"],
        lambda s: make_key(s.database, s.tenant, p_name=NAMES["key"], p_scopes=["chat"], p_rate_limit_per_minute=5).key_id,
    ),
    "core.rotate_key": (
        ["key.rotated"],
        lambda s: s.act("keys.rotate", "core.rotate_key", p_key_id=s.key, p_secret_sha256=ApiKey.generate(s.tenant).digest()),
    ),
    "core.revoke_key": (["key.revoked"], lambda s: s.act("keys.revoke", "core.revoke_key", p_key_id=s.key)),
    "core.create_service_account": (
        # Two things are done at once, and each has its entry.
        ["user.created", "roles.changed"],
        lambda s: service_account(s.database, s.tenant, NAMES["account"]),
    ),
    "core.grant_roles": (
        ["roles.changed"],
        lambda s: s.act("roles.grant", "core.grant_roles", p_user_id=s.bob, p_roles=["auditor"]),
    ),
    "core.update_user": (
        ["user.disabled"],
        lambda s: s.act("users.update", "core.update_user", p_user_id=s.bob, p_active=False),
    ),
    "core.erase_user": (["user.erased"], lambda s: s.act("users.erase", "core.erase_user", p_user_id=s.bob)),
    "core.update_tenant": (
        ["tenant.updated"],
        lambda s: s.act("tenants.update", "core.update_tenant", p_name=NAMES["tenant"], p_time_zone="Europe/Berlin"),
    ),
    "core.create_tenant": (
        ["tenant.created"],
        lambda s: s.act(
            "tenants.create", "core.create_tenant",
            p_slug=f"new-{uuid4()}", p_name=NAMES["tenant"], p_admin_subject=NAMES["admin"],
        ),
    ),
    "chat.share_conversation": (
        ["conversation.shared"],
        lambda s: s.act("chat.share", "chat.share_conversation", p_conversation_id=s.conversation, p_users=[s.bob]),
    ),
    "chat.delete_conversation": (
        ["conversation.deleted"],
        lambda s: s.act("chat.manage", "chat.delete_conversation", p_conversation_id=s.conversation),
    ),
    "rag.put_collection": (["collection.created"], put_collection),
    "rag.share_collection": (
        ["collection.created", "collection.shared"],
        lambda s: put_collection(s) and s.act(
            "collections.share", "rag.share_collection", p_name="contracts", p_grants='[{"group": "staff", "access": "read"}]',
        ),
    ),
    "rag.delete_collection": (
        ["collection.created", "collection.deleted"],
        lambda s: put_collection(s) and s.act("collections.delete", "rag.delete_collection", p_name="contracts"),
    ),
    "rag.delete_document": (["document.deleted"], delete_document),
    "rag.put_bucket": (["bucket.assigned"], put_bucket),
    "rag.drop_bucket": (
        ["bucket.assigned", "bucket.dropped"],
        lambda s: put_bucket(s) and s.act(
            "buckets.update", "rag.drop_bucket", p_bucket="papers", p_prefix="", p_tenant_id=s.tenant,
        ),
    ),
    "routing.set_alias": (["alias.set"], set_alias),
    "routing.drop_alias": (
        ["alias.set", "alias.dropped"],
        lambda s: set_alias(s) and s.act("aliases.update", "routing.drop_alias", p_name="handbook"),
    ),
    "budget.set_limit": (["budget.changed"], set_limit),
    "budget.top_up": (
        ["budget.changed", "budget.topped_up"],
        lambda s: set_limit(s) and s.act(
            "budgets.update", "budget.top_up", p_scope="user", p_holder_id=s.bob, p_period="day", p_tokens=5,
        ),
    ),
}  # fmt: skip


NOT_AUDITED = {"chat.update_conversation", "budget.reserve_embedding", "rag.retry_documents", "rag.accept_notices"}
"""What users do all day with what is their own, as they ask; and work that goes on."""

OF_REGIONS = {"core.set_region", "core.drop_region", "core.set_home", "core.drop_home"}
"""Tried in test_regions.py: most of their entries are in the platform's chain."""


def test_every_function_that_changes_something_is_among_those_tried_here(database: Database) -> None:
    with database.connect() as operator:
        changing = operator.query(
            "SELECT n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            " WHERE (n.nspname IN ('core', 'compliance') OR p.prosrc ~ 'require_operation') AND p.provolatile = 'v'"
            " AND p.prosecdef AND has_function_privilege('app', p.oid, 'EXECUTE')"
        )
    door = {
        "core.enter", "core.enter_function", "core.authenticate_key",
        "compliance.record_refusal", "compliance.record_residency",
    }  # fmt: skip
    assert {row[0] for row in changing} - door - NOT_AUDITED - OF_REGIONS == set(CHANGES)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_leaves_its_entry_with_ids_and_without_a_name(
    database: Database, tenants: Sequence[UUID], change: str
) -> None:
    scene = Scene(database, tenants[0])
    actions, do = CHANGES[change]
    before = len(entries(database, scene.tenant))
    result = do(scene)
    chain = UUID(result["id"]) if change == "core.create_tenant" else scene.tenant
    added = entries(database, chain)[0 if change == "core.create_tenant" else before :]
    assert [action for _, _, action, _, _ in added] == actions
    assert {actor for _, actor, _, _, _ in added} == {f"user:{scene.ann}"}
    for _, _, action, obj, data in added:
        # An alias is a name, of a model.
        assert obj == "handbook" if action.startswith("alias.") else UUID(obj)
        text = json.dumps([obj, data]).lower()
        assert [kind for kind, name in NAMES.items() if name.lower() in text] == []
    assert breaks(database, chain) == INTACT


def test_the_kinds_of_a_change_to_a_user_or_a_tenant_are_told_apart(
    database: Database, tenants: Sequence[UUID]
) -> None:
    scene = Scene(database, tenants[0])
    for active in (False, True):
        scene.act("users.update", "core.update_user", p_user_id=scene.bob, p_active=active)
        scene.act("tenants.update", "core.update_tenant", p_tenant_id=scene.other, p_active=active)
    assert [entry[2] for entry in entries(database, scene.tenant)[-2:]] == ["user.disabled", "user.enabled"]
    assert [entry[1:] for entry in entries(database, scene.other)] == [
        (f"user:{scene.ann}", "tenant.updated", str(scene.other), {"active": active}) for active in (False, True)
    ]


def test_a_key_that_acts_is_named_as_the_actor(database: Database, tenants: Sequence[UUID]) -> None:
    key = make_key(database, tenants[0])
    make_key(database, tenants[0], by_key=key.key_id)
    assert [entry[1] for entry in entries(database, tenants[0])][1] == f"key:{key.key_id}"
    with database.connect() as operator:
        operator.call("compliance.append", p_tenant_id=tenants[0], p_action="x.y", p_object="z", p_data="{}")
    assert entries(database, tenants[0])[-1][1] == "role:postgres"
