"""Regions: where tenants are at home, what becomes of their requests and events elsewhere, and who says so."""

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.steps import PLATFORM, act, entries, refused, user
from tests.support import Caller, Database, store_chunks

OWN = "test"
"""The REGION of the tests' databases."""
EUROPE = "eu-west-1"
ROOT: dict[str, Any] = {"subject": "root", "roles": ["platform_admin"]}
URL = "https://{function}.eu.example"


@pytest.fixture
def database(cleared_database: Database) -> Iterator[Database]:
    yield cleared_database
    with cleared_database.connect() as operator:
        operator.run("DELETE FROM core.tenant_homes")
        operator.run("DELETE FROM core.regions")


@pytest.fixture
def operator(database: Database) -> Iterator[Caller]:
    """A database administrator, who calls the same functions that HTTP does."""
    with database.connect() as operator:
        yield operator


def set_region(operator: Caller, name: str = EUROPE, policy: str = "redirect", **arguments: Any) -> Any:
    return operator.call("core.set_region", p_name=name, p_url=URL, p_policy=policy, **arguments)


def set_home(operator: Caller, tenant: UUID, region: str = EUROPE, policy: str | None = None) -> Any:
    return operator.call("core.set_home", p_tenant_id=tenant, p_region=region, p_policy=policy)


def decided(database: Database, tenant: UUID) -> Any:
    """Return what the functions' role is told of a tenant."""
    with database.connect("app") as app:
        return app.call("core.residency", p_tenant_id=tenant)


def worker(app: Caller, tenant: UUID, region: str | None = None) -> None:
    with app.connection.transaction():
        app.call("core.enter_function", p_tenant_id=tenant, p_function="inference", p_region=region)


HERE = {"decision": "serve", "region": OWN}
THERE = {"region": EUROPE, "url": URL, "function_urls": {}}


@pytest.mark.parametrize(
    ("has_row", "home", "tenants_policy", "regions_policy", "expected"),
    [
        (True, None, None, "redirect", HERE),
        (True, None, None, "refuse", HERE),
        (True, OWN, None, "refuse", HERE),
        (True, EUROPE, None, "redirect", {"decision": "redirect", **THERE}),
        (True, EUROPE, None, "refuse", {"decision": "refuse", **THERE}),
        (False, None, None, "redirect", {"decision": "unknown"}),
        (False, OWN, None, "redirect", {"decision": "unknown"}),
        (False, EUROPE, None, "redirect", {"decision": "redirect", **THERE}),
        (False, EUROPE, None, "refuse", {"decision": "refuse", **THERE}),
        (False, EUROPE, "refuse", "redirect", {"decision": "refuse", **THERE}),
        (False, EUROPE, "redirect", "refuse", {"decision": "redirect", **THERE}),
        (True, EUROPE, "refuse", "redirect", {"decision": "refuse", **THERE}),
    ],
)
def test_the_decision(
    database: Database,
    operator: Caller,
    tenants: Sequence[UUID],
    has_row: bool,
    home: str | None,
    tenants_policy: str | None,
    regions_policy: str,
    expected: dict[str, Any],
) -> None:
    """The table of docs/regions.md."""
    tenant = tenants[0] if has_row else uuid4()
    for region in (OWN, EUROPE):
        set_region(operator, region, regions_policy)
    if home is not None:
        # As whoever writes the table by hand may have it: core.set_home has no rows of the own region.
        operator.run("INSERT INTO core.tenant_homes VALUES (%s, %s, %s)", [tenant, home, tenants_policy])
    assert decided(database, tenant) == expected

    sqlstate = {"redirect": "EA040", "refuse": "EA041", "unknown": "EA001"}.get(expected["decision"])
    if sqlstate is None:
        user(database, tenant)
        return
    with refused(sqlstate) as raised:
        act(database, tenant, "me.read", "core.whoami")
    told = json.loads(raised.value.diag.message_detail or "{}")
    assert told == ({"region": EUROPE} if "region" in expected else {})
    assert operator.value("SELECT count(*) FROM core.users") == 0


def test_a_tenant_without_directory_is_served_whatever_the_region_is_called(
    database: Database, operator: Caller, tenants: Sequence[UUID]
) -> None:
    assert operator.query("SELECT FROM core.regions") == []
    operator.run("UPDATE core.tenants SET region = 'a former name' WHERE id = %s", [tenants[0]])
    assert decided(database, tenants[0]) == HERE
    user(database, tenants[0])


def test_a_decision_is_audited_in_the_platforms_log_and_names_nobody(
    database: Database, operator: Caller, tenants: Sequence[UUID]
) -> None:
    set_region(operator)
    user(database, tenants[0])
    away, unknown = uuid4(), uuid4()
    for tenant in (away, tenants[0]):
        set_home(operator, tenant)
    set_home(operator, tenants[0], policy="refuse")
    before, own_before = len(entries(database, PLATFORM)), len(entries(database, tenants[0]))
    with database.connect("app") as app:
        for tenant in (away, tenants[0], tenants[1], unknown):
            told = app.call(
                "compliance.record_residency",
                p_tenant_id=tenant,
                p_operation="chat.ask" + "!" * 200,
                p_data=json.dumps({"request_id": "r", "decision": "serve"}),
            )
            assert told == app.call("core.residency", p_tenant_id=tenant)
    written = entries(database, PLATFORM)[before:]
    assert [(entry[1], entry[2], len(entry[3]), entry[4]) for entry in written] == [
        (
            "unknown",
            "residency.decided",
            100,
            {"request_id": "r", "tenant_id": str(tenant), "region": EUROPE, "decision": decision},
        )
        for tenant, decision in ((away, "redirect"), (tenants[0], "refuse"))
    ]
    assert len(entries(database, tenants[0])) == own_before
    assert entries(database, away) == entries(database, unknown) == []
    assert operator.rows("compliance.chain_breaks", p_tenant_id=PLATFORM) == []


def test_an_event_of_another_region_or_of_its_tenants_is_refused(
    database: Database, operator: Caller, tenants: Sequence[UUID]
) -> None:
    set_region(operator)
    with database.connect("app") as app:
        worker(app, tenants[0], OWN)
        worker(app, tenants[0])
        with refused("EA042"):
            worker(app, tenants[0], EUROPE)
        set_home(operator, tenants[1])
        for region in (OWN, EUROPE, None):
            with refused("EA042"):
                worker(app, tenants[1], region)
        # As in the release before this one, whose functions may still run.
        with app.connection.transaction():
            app.call("core.enter_function", p_tenant_id=tenants[0], p_function="inference")
        # A tenant that is deleted leaves events behind: they find nothing to do.
        worker(app, uuid4(), OWN)


def test_an_event_of_before_the_deployment_had_a_name_is_taken(
    database: Database, operator: Caller, tenants: Sequence[UUID]
) -> None:
    set_region(operator)
    set_home(operator, tenants[1])
    with database.connect("app") as app:
        worker(app, tenants[0], "local")
        with refused("EA042"):
            worker(app, tenants[1], "local")


def upload(database: Database, tenant: UUID, *names: str) -> list[UUID]:
    with database.connect("app", tenant) as app:
        document = {"p_collection": "c", "p_media_type": "text/plain", "p_original": "x"}
        return [app.call("rag.store_document", p_name=name, **document) for name in names]


def asked_for(operator: Caller) -> list[UUID]:
    """Return the tenants of the events that wait, and let there be none."""
    rows = operator.query("DELETE FROM events.outbox RETURNING tenant_id")
    return [tenant for (tenant,) in rows]


def test_documents_of_a_tenant_that_has_left_are_not_asked_for_again_and_hold_up_nobodys(
    database: Database, operator: Caller, tenants: Sequence[UUID]
) -> None:
    """Nobody takes such an event, so that its document never runs out of attempts."""
    set_region(operator)
    gone, here = tenants
    upload(database, gone, *(str(number) for number in range(100)))
    upload(database, here, "a.md")
    operator.run("UPDATE rag.documents SET emitted_at = now() - interval '1 hour' WHERE tenant_id = %s", [gone])
    operator.run("UPDATE rag.documents SET emitted_at = now() - interval '2 minutes' WHERE tenant_id = %s", [here])
    set_home(operator, gone)
    asked_for(operator)
    assert operator.call("rag.sweep_documents") == 1
    assert asked_for(operator) == [here]
    assert operator.call("rag.sweep_documents") == 0
    set_home(operator, gone, OWN)
    assert operator.call("rag.sweep_documents") == 100, "it has come back, and nothing is lost"


def test_vectors_of_a_tenant_that_has_left_are_not_asked_for_again(
    database: Database, operator: Caller, tenants: Sequence[UUID]
) -> None:
    set_region(operator)
    gone, here = tenants
    for tenant in tenants:
        documents = upload(database, tenant, "waits.md", "all.md")
        with database.connect("app", tenant) as app:
            for document in documents:
                store_chunks(app, document, [f"Alpha {document}"])
    operator.run("UPDATE rag.embedding_queue SET turn_at = turn_at - interval '2 minutes'")
    operator.run(
        "DELETE FROM rag.embedding_queue AS q USING rag.documents AS d"
        " WHERE d.tenant_id = q.tenant_id AND d.id = q.document_id AND d.name = 'all.md'"
    )
    operator.run("UPDATE rag.documents SET updated_at = now() - interval '2 minutes' WHERE name = 'all.md'")
    set_home(operator, gone)
    asked_for(operator)
    assert operator.call("rag.sweep_embeddings") == 2, "one to ask for, and one of which nothing is left to wait for"
    assert set(asked_for(operator)) == {here}
    set_home(operator, gone, OWN)
    operator.run("UPDATE rag.embedding_queue SET turn_at = turn_at + interval '1 hour' WHERE tenant_id = %s", [here])
    assert operator.call("rag.sweep_embeddings") == 2
    assert set(asked_for(operator)) == {gone}


def test_a_bucket_of_a_tenant_that_has_left_is_nobodys(
    database: Database, operator: Caller, tenants: Sequence[UUID]
) -> None:
    set_region(operator)
    place: dict[str, Any] = {"p_bucket": "company", "p_prefix": "docs/", "p_collection": "default"}
    act(database, tenants[1], "buckets.update", "rag.put_bucket", roles=["platform_admin"], **place)
    with database.connect("app") as app:
        target = {"p_bucket": "company", "p_object_key": "docs/a.md"}
        assert app.call("rag.bucket_target", **target)["tenant_id"] == str(tenants[1])
        set_home(operator, tenants[1])
        assert app.call("rag.bucket_target", **target) is None


def test_the_directory_is_set_and_read(database: Database, operator: Caller, tenants: Sequence[UUID]) -> None:
    def manage(operation: str, function: str, **arguments: Any) -> Any:
        return act(database, tenants[0], operation, function, **ROOT, **arguments)

    assert manage("regions.read", "core.list_regions") == {"own": OWN, "regions": []}
    urls = {"chat": "https://talk.eu.example"}
    made = manage(
        "regions.update",
        "core.set_region",
        p_name=EUROPE,
        p_url="https://eu.example/",
        p_function_urls=json.dumps(urls),
    )
    assert made == {
        "name": EUROPE, "url": "https://eu.example", "function_urls": urls, "policy": "redirect", "own": False,
        "changed_at": made["changed_at"],
    }  # fmt: skip
    own = manage("regions.update", "core.set_region", p_name=OWN, p_url="https://t.example", p_policy="refuse")
    assert own["own"]
    assert manage("regions.read", "core.list_regions")["regions"] == [made, own]

    home = {"p_tenant_id": tenants[1]}
    at_home = {"tenant_id": str(tenants[1]), "region": OWN, "decision": "serve", "policy": None}
    assert manage("regions.read", "core.read_home", **home) == at_home
    told = manage("regions.update", "core.set_home", **home, p_region=EUROPE, p_policy="refuse")
    assert told == {"tenant_id": str(tenants[1]), "region": EUROPE, "decision": "refuse", "policy": "refuse"}
    assert operator.value("SELECT region FROM core.tenants WHERE id = %s", [tenants[1]]) == EUROPE
    with refused("EA013"):
        manage("regions.update", "core.drop_region", p_name=EUROPE)
    with refused("EA013"):
        manage("regions.update", "core.drop_home", **home)
    assert manage("regions.update", "core.set_home", **home, p_region=OWN) == at_home
    assert operator.query("SELECT FROM core.tenant_homes") == []
    assert operator.value("SELECT region FROM core.tenants WHERE id = %s", [tenants[1]]) == OWN
    manage("regions.update", "core.drop_region", p_name=EUROPE)
    with refused("EA002"):
        manage("regions.update", "core.drop_region", p_name=EUROPE)

    root = f"user:{user(database, tenants[0], **ROOT)}"
    actions = [(entry[1], entry[2], entry[3]) for entry in entries(database, PLATFORM)[-3:]]
    assert actions == [
        (root, "region.changed", EUROPE),
        (root, "region.changed", OWN),
        (root, "region.removed", EUROPE),
    ]
    assert [entry[1:] for entry in entries(database, tenants[1])] == [
        (root, "tenant.home_changed", str(tenants[1]), {"region": EUROPE, "policy": "refuse"}),
        (root, "tenant.home_changed", str(tenants[1]), {"region": OWN}),
    ]


def test_a_tenant_of_elsewhere_comes_into_the_directory_and_leaves_it(database: Database, operator: Caller) -> None:
    set_region(operator)
    tenant = uuid4()
    with refused("EA002"):
        operator.call("core.read_home", p_tenant_id=tenant)
    assert set_home(operator, tenant)["decision"] == "redirect"
    assert set_home(operator, tenant, policy="refuse")["decision"] == "refuse"
    operator.call("core.drop_home", p_tenant_id=tenant)
    assert decided(database, tenant) == {"decision": "unknown"}
    with refused("EA002"):
        operator.call("core.drop_home", p_tenant_id=tenant)
    actions = [entry[2] for entry in entries(database, PLATFORM) if entry[3] == str(tenant)]
    assert actions == ["tenant.home_changed", "tenant.home_changed", "tenant.home_removed"]


def test_what_cannot_be_is_refused(database: Database, operator: Caller, tenants: Sequence[UUID]) -> None:
    set_region(operator)
    with refused("EA002"):
        set_home(operator, uuid4(), OWN)
    with refused("EA012"):
        set_home(operator, tenants[1], "ap-southeast-1")
    with refused("EA012"):
        act(database, tenants[0], "regions.update", "core.set_home", **ROOT, p_tenant_id=tenants[0], p_region=EUROPE)
    for wrong in (
        {"p_url": "ftp://eu.example"},
        {"p_url": "https://eu.example/?a=b"},
        {"p_function_urls": json.dumps({"chat": "javascript:alert(1)"})},
        {"p_function_urls": json.dumps({"chat": 1})},
        {"p_function_urls": "[]"},
        {"p_policy": "perhaps"},
        {"p_name": "EU west"},
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            operator.call("core.set_region", **({"p_name": "x", "p_url": URL} | wrong))
    assert operator.value("SELECT array_agg(name) FROM core.regions") == [EUROPE]


def test_a_deployment_without_a_name_has_no_directory(operator: Caller) -> None:
    """Its functions do not ask where a tenant is at home before they begin."""
    with operator.connection.transaction(force_rollback=True):
        operator.run("UPDATE ops.settings SET value = 'local' WHERE name = 'region'")
        with refused("EA013"):
            set_region(operator)


@pytest.mark.parametrize("role", ["tenant_admin", "auditor", "service"])
def test_only_a_platform_admin_sees_or_changes_the_directory(
    database: Database, tenants: Sequence[UUID], role: str
) -> None:
    for operation in ("regions.read", "regions.update"):
        with refused("EA008"):
            act(database, tenants[0], operation, "core.list_regions", roles=[role])
    calls: dict[str, dict[str, Any]] = {
        "core.list_regions": {},
        "core.set_region": {"p_name": EUROPE, "p_url": URL},
        "core.drop_region": {"p_name": EUROPE},
        "core.read_home": {"p_tenant_id": tenants[0]},
        "core.set_home": {"p_tenant_id": tenants[1], "p_region": EUROPE},
        "core.drop_home": {"p_tenant_id": tenants[1]},
    }
    for function, arguments in calls.items():
        # Whatever a handler has got wrong: admitted to something else, one does not get in.
        with refused("EA008"):
            act(database, tenants[0], "me.read", function, roles=[role], **arguments)
