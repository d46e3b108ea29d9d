"""Tenants: made, changed, suspended and resumed by a platform_admin, and renamed by their own administrators."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.steps import act, make_key, refused, user
from tests.support import Database

PLATFORM_ADMIN = {"subject": "root", "roles": ["platform_admin"]}


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


def create(database: Database, home: UUID, slug: str = "gamma", **arguments: Any) -> Any:
    given = {"p_slug": slug, "p_name": slug.title()} | PLATFORM_ADMIN | arguments
    return act(database, home, "tenants.create", "core.create_tenant", **given)


def update(database: Database, home: UUID, operation: str = "tenants.update", **arguments: Any) -> Any:
    return act(database, home, operation, "core.update_tenant", **(PLATFORM_ADMIN | arguments))


def test_a_tenant_is_made_with_its_first_administrator(database: Database, tenants: Sequence[UUID]) -> None:
    made = create(database, tenants[0], p_admin_subject="grace", p_time_zone="Europe/Berlin")
    assert {name: made[name] for name in ("slug", "name", "region", "time_zone", "active")} == {
        "slug": "gamma", "name": "Gamma", "region": "test", "time_zone": "Europe/Berlin", "active": True,
    }  # fmt: skip
    gamma = UUID(made["id"])
    # The token names no role at all; the grant does.
    me = act(database, gamma, "users.create", "core.whoami", subject="grace", roles=[])
    assert me["user"]["roles"] == ["tenant_admin"]
    assert me["tenant"] == made
    with refused("EA008"):
        act(database, gamma, "users.create", "core.whoami", subject="somebody else", roles=[])
    assert create(database, tenants[0], "delta")["time_zone"] == "UTC"
    with database.connect() as operator:
        assert operator.query("SELECT subject FROM core.users WHERE subject = 'grace'") == [("grace",)]


def test_a_slug_is_one_tenants(database: Database, tenants: Sequence[UUID]) -> None:
    with refused("EA013"):
        create(database, tenants[0], "beta", p_admin_subject="mallory")
    with database.connect() as operator:
        assert operator.value("SELECT name FROM core.tenants WHERE slug = 'beta'") == "Beta"
        assert operator.value("SELECT count(*) FROM core.users WHERE subject = 'mallory'") == 0


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "+02:00", "CEST", "EST5EDT4", "UTC+1", "", "europe/berlin", "Etc/GMT-99"]
)
def test_a_time_zone_is_one_of_the_databases_names(database: Database, tenants: Sequence[UUID], zone: str) -> None:
    with refused("EA012"):
        create(database, tenants[0], p_time_zone=zone)
    with refused("EA012"):
        update(database, tenants[0], p_tenant_id=tenants[1], p_time_zone=zone)
    with database.connect() as operator:
        assert operator.query("SELECT DISTINCT time_zone FROM core.tenants") == [("UTC",)]


def test_a_suspended_tenants_requests_are_refused_until_it_is_resumed(
    database: Database, tenants: Sequence[UUID]
) -> None:
    key = make_key(database, tenants[1])
    with database.connect("app", tenants[1]) as running:
        assert update(database, tenants[0], p_tenant_id=tenants[1], p_active=False)["active"] is False
        for session in ({"subject": "ann"}, {"subject": "new"}, {"subject": "ann", "roles": [], "api_key": key.key_id}):
            with refused("EA011"):
                act(database, tenants[1], "me.read", "core.whoami", **session)
        assert running.value("SELECT count(*) FROM core.users") == 1, "its data stays, and nobody new comes"
        since = running.value("SELECT suspended_at FROM core.tenants")
        update(database, tenants[0], p_tenant_id=tenants[1], p_active=False)
        assert running.value("SELECT suspended_at FROM core.tenants") == since
    user(database, tenants[0])
    assert update(database, tenants[0], p_tenant_id=tenants[1], p_active=True)["active"] is True
    act(database, tenants[1], "me.read", "core.whoami", roles=[], api_key=key.key_id)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("operation", ["tenant.update", "tenants.update"])
def test_nobody_suspends_or_resumes_the_own_tenant(
    database: Database, tenants: Sequence[UUID], named: bool, active: bool, operation: str
) -> None:
    with refused("EA012"):
        update(
            database, tenants[0], operation, roles=["tenant_admin", "platform_admin"],
            p_active=active, p_tenant_id=tenants[0] if named else None,
        )  # fmt: skip
    user(database, tenants[0])


def test_an_administrator_changes_the_own_tenant_and_no_other(database: Database, tenants: Sequence[UUID]) -> None:
    session = {"subject": "ann", "roles": ["tenant_admin"]}
    changed = update(database, tenants[0], "tenant.update", p_name="Alpha AG", **session)
    assert (changed["slug"], changed["name"], changed["time_zone"]) == ("alpha", "Alpha AG", "UTC")
    changed = update(database, tenants[0], "tenant.update", p_tenant_id=tenants[0], p_name="Alpha & Co", **session)
    assert changed["name"] == "Alpha & Co"
    # By the zone begin the days and months of the budgets.
    with refused("EA008"):
        update(database, tenants[0], "tenant.update", p_time_zone="Pacific/Kiritimati", **session)
    for other in (tenants[1], uuid4()):
        with refused("EA008"):
            update(database, tenants[0], "tenant.update", p_tenant_id=other, p_name="Mine", **session)
    assert act(database, tenants[1], "tenant.read", "core.read_tenant")["name"] == "Beta"
    assert act(database, tenants[0], "tenant.read", "core.read_tenant") == changed


def test_a_platform_admin_changes_any_tenant_there_is(database: Database, tenants: Sequence[UUID]) -> None:
    changed = update(database, tenants[0], p_tenant_id=tenants[1], p_name="Beta & Co", p_time_zone="Asia/Tokyo")
    assert (changed["id"], changed["name"], changed["time_zone"]) == (str(tenants[1]), "Beta & Co", "Asia/Tokyo")
    with refused("EA002"):
        update(database, tenants[0], p_tenant_id=uuid4(), p_name="Nobody's")
    with pytest.raises(psycopg.errors.CheckViolation):
        update(database, tenants[0], p_tenant_id=tenants[1], p_name="")


def test_tenants_are_listed_by_slug_page_by_page(database: Database, tenants: Sequence[UUID]) -> None:
    create(database, tenants[0])

    def listed(**arguments: Any) -> list[str]:
        rows = act(database, tenants[0], "tenants.read", "core.list_tenants", **(PLATFORM_ADMIN | arguments))
        return [row["slug"] for row in rows]

    assert listed() == ["alpha", "beta", "gamma"]
    assert listed(p_limit=2) == ["alpha", "beta"]
    assert listed(p_after="alpha", p_limit=1) == ["beta"]
