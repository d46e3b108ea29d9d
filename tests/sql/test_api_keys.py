"""An API key from its making to its end: whom it stands for, what it may do, and who may make, renew or end it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from shared.api_keys import ApiKey
from tests.sql.steps import act, authenticate, entries, make_key, refused, service_account, user
from tests.support import Database

WRONG = {"refused": "wrong secret", "authentic": False}
UNKNOWN = {"refused": "unknown key", "authentic": False}


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


def rotate(database: Database, key: ApiKey, overlap: str | None = None, **session: Any) -> ApiKey:
    """Return the key with its new secret."""
    renewed = ApiKey.generate(key.tenant_id, key.key_id)
    arguments: dict[str, Any] = {"p_key_id": key.key_id, "p_secret_sha256": renewed.digest()}
    if overlap is not None:
        arguments["p_overlap"] = overlap
    act(database, key.tenant_id, "keys.rotate", "core.rotate_key", **session, **arguments)
    return renewed


def revoke(database: Database, key: ApiKey, **session: Any) -> Any:
    return act(database, key.tenant_id, "keys.revoke", "core.revoke_key", **session, p_key_id=key.key_id)


def enter(database: Database, key: ApiKey, operation: str = "me.read", subject: str = "ann") -> None:
    """Admit a request by the key, as the functions do after they have authenticated it."""
    with database.connect("app", key.tenant_id, subject, operation=operation, roles=(), api_key=key.key_id):
        pass


def change(database: Database, key: ApiKey, assignments: str) -> None:
    """Let time pass for a key."""
    with database.connect() as operator:
        assert operator.run(f"UPDATE core.api_keys SET {assignments} WHERE id = %s", [key.key_id]) == 1


def test_a_key_stands_for_its_user(database: Database, tenants: Sequence[UUID]) -> None:
    key = make_key(database, tenants[0], p_rate_limit_per_minute=7)
    assert authenticate(database, key) == {"subject": "ann", "rate_limit_per_minute": 7}
    me = act(database, tenants[0], "me.read", "core.whoami", roles=(), api_key=key.key_id)
    assert (me["user"]["subject"], me["user"]["roles"]) == ("ann", ["tenant_admin"])
    assert me["key"]["id"] == str(key.key_id)
    assert me["key"]["status"] == "active"


def test_a_key_needs_its_own_secret(database: Database, tenants: Sequence[UUID]) -> None:
    key, other = (make_key(database, tenants[0]) for _ in range(2))
    for secret in (other.secret, key.secret[:-1], key.secret + "x", ""):
        assert authenticate(database, replace(key, secret=secret)) == WRONG


@pytest.mark.parametrize("digest", [bytes(32), b"", None], ids=["zeros", "empty", "null"])
@pytest.mark.parametrize("rotated", [False, True])
def test_no_digest_that_is_no_secrets_authenticates(
    database: Database, tenants: Sequence[UUID], digest: bytes | None, rotated: bool
) -> None:
    key = make_key(database, tenants[0])
    if rotated:
        key = rotate(database, key, "1 hour")
    for key_id, refusal in ((key.key_id, WRONG), (uuid4(), UNKNOWN)):
        with database.connect("app") as app:
            assert refusal == app.call(
                "core.authenticate_key", p_tenant_id=tenants[0], p_key_id=key_id, p_secret_sha256=digest
            )


def test_a_key_is_good_in_its_own_tenant_and_for_its_own_user_only(database: Database, tenants: Sequence[UUID]) -> None:
    key = make_key(database, tenants[0])
    for tenant in tenants:
        user(database, tenant, "bob")
    user(database, tenants[1])
    moved = replace(key, tenant_id=tenants[1])
    assert authenticate(database, moved) == UNKNOWN
    for attempt, subject in ((moved, "ann"), (moved, "bob"), (key, "bob"), (key, "nobody")):
        with refused("EA009"):
            enter(database, attempt, subject=subject)
    enter(database, key)


def test_after_a_rotation_both_secrets_are_good_for_the_overlap(database: Database, tenants: Sequence[UUID]) -> None:
    first = make_key(database, tenants[0])
    second = rotate(database, first, "1 hour")
    assert [authenticate(database, key).get("subject") for key in (first, second)] == ["ann", "ann"]
    change(database, first, "previous_until = now() - interval '1 second'")
    assert authenticate(database, first) == {"refused": "rotated", "authentic": True}
    assert authenticate(database, second)["subject"] == "ann"


def test_a_rotation_without_an_overlap_ends_the_former_secret_at_once(
    database: Database, tenants: Sequence[UUID]
) -> None:
    first = make_key(database, tenants[0])
    second = rotate(database, first)
    assert authenticate(database, first) == {"refused": "rotated", "authentic": True}
    assert authenticate(database, second)["subject"] == "ann"


def test_a_second_rotation_ends_the_secret_before_the_former(database: Database, tenants: Sequence[UUID]) -> None:
    first = make_key(database, tenants[0])
    second = rotate(database, first, "1 hour")
    third = rotate(database, second, "1 hour")
    assert authenticate(database, first) == WRONG
    assert [authenticate(database, key).get("subject") for key in (second, third)] == ["ann", "ann"]


def test_a_revoked_key_is_good_for_nothing_and_stays_so(database: Database, tenants: Sequence[UUID]) -> None:
    first = make_key(database, tenants[0])
    key = rotate(database, first, "1 hour")
    enter(database, key)
    ended = revoke(database, key)
    assert ended["status"] == "revoked"
    for secret in (first, key):
        assert authenticate(database, secret) == {"refused": "revoked", "authentic": True}
    assert authenticate(database, replace(key, secret="x")) == WRONG
    # A request that was authenticated before the revocation is refused at the door all the same.
    with refused("EA009"):
        enter(database, key)
    with refused("EA013"):
        rotate(database, key)
    logged = len(entries(database, tenants[0]))
    assert revoke(database, key) == ended
    assert len(entries(database, tenants[0])) == logged, "nothing was changed"


def test_a_key_expires(database: Database, tenants: Sequence[UUID]) -> None:
    key = make_key(database, tenants[0], p_expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert authenticate(database, key)["subject"] == "ann"
    change(database, key, "expires_at = now() - interval '1 second'")
    assert authenticate(database, key) == {"refused": "expired", "authentic": True}
    with refused("EA009"):
        enter(database, key)
    with refused("EA013"):
        rotate(database, key)
    with refused("EA012"):
        make_key(database, tenants[0], p_expires_at=datetime.now(UTC) - timedelta(seconds=1))


def test_the_last_use_is_noted_to_the_minute_and_a_refused_use_is_none(
    database: Database, tenants: Sequence[UUID]
) -> None:
    key = make_key(database, tenants[0])

    def last_use() -> Any:
        (listed,) = act(database, tenants[0], "keys.read", "core.list_keys")
        return listed["last_used_at"]

    assert last_use() is None
    authenticate(database, replace(key, secret="x"))
    assert last_use() is None
    authenticate(database, key)
    first = last_use()
    assert first is not None
    authenticate(database, key)
    assert last_use() == first
    change(database, key, "last_used_at = last_used_at - interval '61 seconds'")
    authenticate(database, key)
    assert last_use() > first


def test_the_key_of_a_disabled_user_is_refused_until_the_user_is_enabled(
    database: Database, tenants: Sequence[UUID]
) -> None:
    bob = user(database, tenants[0], "bob", ["member"])
    key = make_key(database, tenants[0], subject="bob", roles=["member"])
    act(database, tenants[0], "users.update", "core.update_user", p_user_id=bob, p_active=False)
    assert authenticate(database, key) == {"refused": "user disabled", "authentic": True}
    with refused("EA010"):
        enter(database, key, subject="bob")
    act(database, tenants[0], "users.update", "core.update_user", p_user_id=bob, p_active=True)
    enter(database, key, subject="bob")


def test_the_key_of_an_erased_user_is_unknown(database: Database, tenants: Sequence[UUID]) -> None:
    key = make_key(database, tenants[0], subject="bob", roles=["member"])
    act(database, tenants[0], "users.erase", "core.erase_user", p_user_id=user(database, tenants[0], "bob"))
    assert authenticate(database, key) == UNKNOWN
    user(database, tenants[0], "bob")  # and whoever comes by that name afterwards has no key
    with refused("EA009"):
        enter(database, key, subject="bob")


@pytest.mark.parametrize("scopes", [["documents"], ["documents:read"], ["chat:read", "keys"], ["platform"], None])
def test_a_key_is_admitted_to_what_its_scopes_hold_of_its_users_rights(
    database: Database, tenants: Sequence[UUID], scopes: list[str] | None
) -> None:
    key = make_key(database, tenants[0], p_scopes=scopes)
    with database.connect() as operator:
        operations = operator.query("SELECT name, scope, roles && '{tenant_admin,anyone}' FROM core.operations()")
    held = {wide for scope in scopes or [] for wide in (scope, f"{scope}:read")}
    listed = {name for name, scope, may in operations if may and (scopes is None or scope in held)}
    outcomes: dict[str, str | None] = {}
    with database.connect("app") as app:
        for name, _, _ in operations:
            try:
                app.call(
                    "core.enter", p_tenant_id=tenants[0], p_subject="ann", p_operation=name, p_api_key_id=key.key_id
                )
            except psycopg.Error as error:
                outcomes[name] = error.sqlstate
            else:
                outcomes[name] = None
    assert outcomes == {name: None if name in listed else "EA008" for name in outcomes}
    if "me.read" in listed:
        told = act(database, tenants[0], "me.read", "core.whoami", roles=(), api_key=key.key_id)["operations"]
        assert set(told) == listed


def test_a_wider_scope_covers_the_narrower_and_never_the_other_way_round(database: Database) -> None:
    with database.connect() as operator:
        for scopes, scope, covered in (
            (["x"], "x", True), (["x"], "x:read", True), (["x:read"], "x:read", True), (None, "x", True),
            (["x:read"], "x", False), (["y"], "x:read", False), (["x"], "xx:read", False), (["x"], "x:write", False),
            ([""], ":read", True), ([], "x", False),
        ):  # fmt: skip
            assert operator.value("SELECT core.scopes_cover(%s::text[], %s) IS TRUE", [scopes, scope]) is covered, (
                scopes,
                scope,
            )


@pytest.mark.parametrize("scopes", [[], ["chats"], ["chat", "root"], ["chat", None], [""]])
def test_scopes_are_those_of_the_operations(database: Database, tenants: Sequence[UUID], scopes: list[str]) -> None:
    with refused("EA012"):
        make_key(database, tenants[0], p_scopes=scopes)


def test_a_key_makes_and_renews_no_key_that_may_do_more_than_itself(
    database: Database, tenants: Sequence[UUID]
) -> None:
    wide = make_key(database, tenants[0])
    documents = make_key(database, tenants[0], p_scopes=["documents"])
    narrow = make_key(database, tenants[0], p_scopes=["keys", "chat"])
    by: dict[str, Any] = {"by_key": narrow.key_id}
    for scopes in (None, ["documents"], ["keys", "chat", "routing:read"], ["identity:read"]):
        with refused("EA008"):
            make_key(database, tenants[0], p_scopes=scopes, **by)
    for scopes in (["chat"], ["chat:read"], ["chat", "keys"]):
        make_key(database, tenants[0], p_scopes=scopes, **by)
    for key in (wide, documents):
        with refused("EA008"):
            rotate(database, key, api_key=narrow.key_id)
    renewed = rotate(database, narrow, api_key=narrow.key_id)
    assert authenticate(database, renewed)["subject"] == "ann"
    make_key(database, tenants[0], by_key=wide.key_id)
    revoke(database, wide, api_key=narrow.key_id)  # to end a key gives nobody anything


def test_only_a_tenant_admin_makes_keys_for_service_accounts(database: Database, tenants: Sequence[UUID]) -> None:
    robot = service_account(database, tenants[0])
    stranger = service_account(database, tenants[1])
    with refused("EA008"):
        make_key(database, tenants[0], subject="bob", roles=["member"], p_user_id=robot)
    key = make_key(database, tenants[0], p_user_id=robot)
    assert authenticate(database, key)["subject"] == "service:robot"
    enter(database, key, "chat.ask", "service:robot")
    with refused("EA002"):
        rotate(database, key, subject="bob", roles=["member"])
    assert authenticate(database, rotate(database, key))["subject"] == "service:robot"
    for other in (stranger, uuid4()):
        with refused("EA008"):
            make_key(database, tenants[0], p_user_id=other)


def test_nobody_gets_the_secret_of_another_persons_key(database: Database, tenants: Sequence[UUID]) -> None:
    bob = user(database, tenants[0], "bob", ["member"])
    bobs = make_key(database, tenants[0], subject="bob", roles=["member"])
    anns = make_key(database, tenants[0])
    for subject, roles in (("ann", ["tenant_admin", "platform_admin"]), ("eve", ["member"])):
        with refused("EA008"):
            make_key(database, tenants[0], subject=subject, roles=roles, p_user_id=bob)
    with refused("EA008"):
        rotate(database, bobs, roles=["tenant_admin", "platform_admin"])
    for call in (rotate, revoke):
        with refused("EA002"):
            call(database, anns, subject="bob", roles=["member"])
    assert authenticate(database, bobs)["subject"] == "bob"
    assert revoke(database, bobs)["status"] == "revoked", "but a tenant_admin may end it"
    beta = replace(make_key(database, tenants[1]), tenant_id=tenants[0])
    for call in (rotate, revoke):
        with refused("EA002"):
            call(database, beta)


def test_a_tenant_admin_gets_no_key_of_a_service_account_that_is_platform_admin(
    database: Database, tenants: Sequence[UUID]
) -> None:
    """Who has the key acts beyond the tenant, which no tenant_admin may."""
    robot = service_account(database, tenants[0])
    platform: dict[str, Any] = {"roles": ["platform_admin", "tenant_admin"], "subject": "root"}
    key = make_key(database, tenants[0], p_user_id=robot, **platform)
    act(
        database, tenants[0], "roles.grant", "core.grant_roles", p_user_id=robot, p_roles=["platform_admin"], **platform
    )  # fmt: skip
    with refused("EA008"):
        rotate(database, key)
    with refused("EA008"):
        make_key(database, tenants[0], p_user_id=robot)


def test_only_a_tenant_admin_gives_a_key_a_rate_limit_of_its_own(database: Database, tenants: Sequence[UUID]) -> None:
    with refused("EA008"):
        make_key(database, tenants[0], subject="bob", roles=["member"], p_rate_limit_per_minute=100_000)
    make_key(database, tenants[0], subject="bob", roles=["member"])
    make_key(database, tenants[0], p_rate_limit_per_minute=100_000)


def test_who_may_list_keys_sees_the_own_ones_or_as_administrator_or_auditor_all(
    database: Database, tenants: Sequence[UUID]
) -> None:
    anns = str(make_key(database, tenants[0]).key_id)
    bobs = str(make_key(database, tenants[0], subject="bob", roles=["member"]).key_id)
    make_key(database, tenants[1])
    bob = user(database, tenants[0], "bob", ["member"])

    def listed(subject: str, role: str, **arguments: Any) -> set[str]:
        keys = act(database, tenants[0], "keys.read", "core.list_keys", subject=subject, roles=[role], **arguments)
        return {key["id"] for key in keys}

    assert listed("bob", "member") == {bobs}
    assert listed("eve", "member", p_user_id=bob) == set()
    for subject, role in (("ann", "tenant_admin"), ("max", "auditor")):
        assert listed(subject, role) == {anns, bobs}
        assert listed(subject, role, p_user_id=bob) == {bobs}


def test_no_role_of_the_platform_reads_the_hash_of_a_secret(database: Database, tenants: Sequence[UUID]) -> None:
    key = rotate(database, make_key(database, tenants[0]), "1 hour")
    with database.connect() as operator:
        readable = operator.query(
            """
            SELECT r.name, a.attname FROM unnest(ARRAY['app', 'relay', 'dba_readonly', 'public']) AS r (name)
            CROSS JOIN pg_attribute a
            WHERE a.attrelid = 'core.api_keys'::regclass AND a.attnum > 0
              AND CASE r.name WHEN 'public' THEN has_column_privilege('public', a.attrelid, a.attnum, 'SELECT')
                  ELSE has_column_privilege(r.name, a.attrelid, a.attnum, 'SELECT') END
            """
        )
        hashes = {row[0] for row in operator.query(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'core.api_keys'::regclass AND atttypid = 'bytea'::regtype"
        )}  # fmt: skip
    assert hashes == {"secret_sha256", "previous_sha256"}
    assert {role for role, _ in readable} == {"dba_readonly"}
    assert not {column for _, column in readable} & hashes
    with database.connect("dba_readonly") as dba:
        assert dba.query("SELECT id, user_id FROM core.api_keys")[0][0] == key.key_id
        for column in ("*", "secret_sha256", "previous_sha256", "sha256(secret_sha256)", "api_keys"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                dba.query(f"SELECT {column} FROM core.api_keys")
    with database.connect("app", tenants[0]) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.query("SELECT id FROM core.api_keys")


def test_what_is_told_of_a_key_holds_neither_secret_nor_hash(database: Database, tenants: Sequence[UUID]) -> None:
    first = make_key(database, tenants[0])
    second = rotate(database, first, "1 hour")
    told = [
        act(database, tenants[0], "keys.read", "core.list_keys"),
        act(database, tenants[0], "me.read", "core.whoami", roles=(), api_key=first.key_id),
        revoke(database, first),
        entries(database, tenants[0]),
    ]
    for key in (first, second):
        assert key.secret not in str(told)
        assert key.digest().hex() not in str(told)
