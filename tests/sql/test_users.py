"""What administrators do to users and roles: service accounts, grants, disabling."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.steps import act, entries, make_key, refused, service_account, user
from tests.support import Database


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


def grant(database: Database, tenant: UUID, roles: Sequence[str | None], **arguments: Any) -> Any:
    """Grant roles, as Ann; `acting` are her own."""
    acting = arguments.pop("acting", ["tenant_admin"])
    return act(database, tenant, "roles.grant", "core.grant_roles", roles=acting, p_roles=list(roles), **arguments)


def activate(database: Database, tenant: UUID, user_id: UUID, active: bool, **session: Any) -> Any:
    return act(database, tenant, "users.update", "core.update_user", p_user_id=user_id, p_active=active, **session)


def erase(database: Database, tenant: UUID, user_id: UUID, **session: Any) -> Any:
    return act(database, tenant, "users.erase", "core.erase_user", p_user_id=user_id, **session)


def grants(database: Database, tenant: UUID) -> list[Any]:
    listed: list[Any] = act(database, tenant, "roles.read", "core.list_grants")
    return listed


def roles_of(database: Database, tenant: UUID, user_id: UUID) -> list[str]:
    (listed,) = act(database, tenant, "users.read", "core.list_users", p_user_id=user_id)
    roles: list[str] = listed["roles"]
    return roles


def test_a_service_account_has_the_roles_it_was_given_and_acts_by_keys(
    database: Database, tenants: Sequence[UUID]
) -> None:
    made = act(database, tenants[0], "users.create", "core.create_service_account", p_name="robot")
    assert (made["subject"], made["kind"], made["name"], made["roles"], made["active"]) == (
        "service:robot", "service", "robot", ["service"], True,
    )  # fmt: skip
    key = make_key(database, tenants[0], p_user_id=UUID(made["id"]))
    me = act(database, tenants[0], "chat.ask", "core.whoami", subject="service:robot", roles=[], api_key=key.key_id)
    assert me["user"]["id"] == made["id"]
    with refused("EA009"):
        act(database, tenants[0], "me.read", "core.whoami", subject="service:robot")


def test_a_service_accounts_name_is_one_of_its_tenant(database: Database, tenants: Sequence[UUID]) -> None:
    service_account(database, tenants[0])
    service_account(database, tenants[1])
    logged = len(entries(database, tenants[0]))
    with refused("EA013"):
        service_account(database, tenants[0])
    assert len(entries(database, tenants[0])) == logged


@pytest.mark.parametrize(("roles", "sqlstate"), [(["platform_admin"], "EA008"), (["root"], "EA012"), ([None], "EA012")])
def test_a_service_account_gets_no_role_that_its_maker_may_not_grant(
    database: Database, tenants: Sequence[UUID], roles: list[str], sqlstate: str
) -> None:
    with refused(sqlstate):
        service_account(database, tenants[0], roles=roles)
    with database.connect() as operator:
        assert operator.value("SELECT count(*) FROM core.users WHERE kind = 'service'") == 0


def test_granted_roles_are_those_of_the_latest_grant(database: Database, tenants: Sequence[UUID]) -> None:
    bob = user(database, tenants[0], "bob", ["viewer"])
    assert grant(database, tenants[0], ["member", "auditor", "member"], p_user_id=bob) == {
        "user_id": str(bob), "group": None, "roles": ["auditor", "member"],
    }  # fmt: skip
    assert roles_of(database, tenants[0], bob) == ["auditor", "member", "viewer"]
    grant(database, tenants[0], ["auditor", "tenant_admin"], p_user_id=bob)
    grant(database, tenants[0], ["member"], p_group_name="staff")
    assert grants(database, tenants[0]) == [
        {"user_id": None, "group": "staff", "roles": ["member"]},
        {"user_id": str(bob), "group": None, "roles": ["auditor", "tenant_admin"]},
    ]
    grant(database, tenants[0], [], p_user_id=bob)
    grant(database, tenants[0], [], p_group_name="staff")
    assert grants(database, tenants[0]) == []
    assert roles_of(database, tenants[0], bob) == ["viewer"]
    assert grants(database, tenants[1]) == []


def test_the_same_grant_again_changes_nothing(database: Database, tenants: Sequence[UUID]) -> None:
    bob = user(database, tenants[0], "bob", ["viewer"])
    grant(database, tenants[0], ["member", "auditor"], p_user_id=bob)
    logged = entries(database, tenants[0])
    grant(database, tenants[0], ["auditor", "member"], p_user_id=bob)
    assert entries(database, tenants[0]) == logged
    assert logged[-1][2:] == ("roles.changed", str(bob), {"before": [], "after": ["auditor", "member"]})


def test_only_a_platform_admin_gives_or_takes_platform_admin(database: Database, tenants: Sequence[UUID]) -> None:
    bob = user(database, tenants[0], "bob", ["member"])
    targets: list[dict[str, Any]] = [{"p_user_id": bob}, {"p_group_name": "operators"}]
    for target in targets:
        with refused("EA008"):
            grant(database, tenants[0], ["member", "platform_admin"], **target)
        grant(database, tenants[0], ["platform_admin"], acting=["platform_admin"], **target)
        for roles in ([], ["member"]):
            with refused("EA008"):
                grant(database, tenants[0], roles, **target)
        grant(database, tenants[0], ["platform_admin", "auditor"], **target)  # what it leaves alone it may change
        grant(database, tenants[0], [], acting=["platform_admin"], **target)
    assert grants(database, tenants[0]) == []


def test_nobody_changes_the_own_roles(database: Database, tenants: Sequence[UUID]) -> None:
    ann = user(database, tenants[0])
    for acting in (["tenant_admin"], ["platform_admin"]):
        with refused("EA008"):
            grant(database, tenants[0], ["auditor"], acting=acting, p_user_id=ann)
    key = make_key(database, tenants[0])
    with refused("EA008"):
        grant(database, tenants[0], ["auditor"], p_user_id=ann, acting=[], api_key=key.key_id)


def test_a_grant_names_a_user_of_the_tenant_or_a_group(database: Database, tenants: Sequence[UUID]) -> None:
    bob = user(database, tenants[0], "bob", ["member"])
    cases: list[tuple[str, list[str | None], dict[str, Any]]] = [
        ("EA012", ["member"], {}),
        ("EA012", ["member"], {"p_user_id": bob, "p_group_name": "staff"}),
        ("EA012", ["root"], {"p_user_id": bob}),
        ("EA012", [None], {"p_user_id": bob}),
        ("EA002", ["member"], {"p_user_id": uuid4()}),
        ("EA002", ["member"], {"p_user_id": user(database, tenants[1], "bob", ["member"])}),
    ]
    for sqlstate, roles, target in cases:
        with refused(sqlstate):
            grant(database, tenants[0], roles, **target)
    with refused("EA008"):
        grant(database, tenants[0], ["auditor"], acting=["member"], p_user_id=bob)


def test_a_disabled_user_is_refused_until_enabled(database: Database, tenants: Sequence[UUID]) -> None:
    bob = user(database, tenants[0], "bob", ["member"])
    same = user(database, tenants[1], "bob", ["member"])
    assert activate(database, tenants[0], bob, active=False)["active"] is False
    with refused("EA010"):
        user(database, tenants[0], "bob", ["tenant_admin"])
    assert user(database, tenants[1], "bob", ["member"]) == same
    with database.connect() as operator:
        since = operator.value("SELECT disabled_at FROM core.users WHERE id = %s", [bob])
        activate(database, tenants[0], bob, active=False)
        assert operator.value("SELECT disabled_at FROM core.users WHERE id = %s", [bob]) == since
    assert activate(database, tenants[0], bob, active=True)["active"] is True
    assert user(database, tenants[0], "bob", ["member"]) == bob


def test_nobody_disables_or_erases_the_own_account_a_strangers_or_an_operators(
    database: Database, tenants: Sequence[UUID]
) -> None:
    ann = user(database, tenants[0])
    root = user(database, tenants[0], "root", ["platform_admin"])
    second = user(database, tenants[0], "second", ["member"], ["operators"])
    grant(database, tenants[0], ["platform_admin"], acting=["platform_admin"], p_group_name="operators")
    stranger = user(database, tenants[1], "bob", ["member"])
    cases = [("EA008", ann), ("EA008", root), ("EA008", second), ("EA002", stranger), ("EA002", uuid4())]
    for sqlstate, target in cases:
        for active in (True, False):
            with refused(sqlstate):
                activate(database, tenants[0], target, active=active)
        with refused(sqlstate):
            erase(database, tenants[0], target)
    both = {"roles": ["platform_admin", "tenant_admin"]}
    activate(database, tenants[0], root, active=False, **both)
    erase(database, tenants[0], second, **both)
    with refused("EA008"):
        erase(database, tenants[0], ann, **both)


def test_users_are_listed_by_subject_page_by_page(database: Database, tenants: Sequence[UUID]) -> None:
    for subject in ("carl", "bob", "dora"):
        user(database, tenants[0], subject, ["member"])
    user(database, tenants[1], "eve")

    def listed(**arguments: Any) -> list[str]:
        return [u["subject"] for u in act(database, tenants[0], "users.read", "core.list_users", **arguments)]

    assert listed() == ["ann", "bob", "carl", "dora"]
    assert listed(p_limit=2) == ["ann", "bob"]
    assert listed(p_after="bob", p_limit=2) == ["carl", "dora"]
    assert listed(p_user_id=uuid4()) == []
