"""One tenant never sees or touches another's rows, whatever SQL the functions' role runs."""

from uuid import UUID

import psycopg
import pytest

from tests.sql.steps import renew
from tests.support import Database, add_document, vector

Tenants = tuple[UUID, UUID]


@pytest.fixture
def populated(database: Database, tenants: Tenants) -> Tenants:
    """Both tenants have a document and an answered turn."""
    for tenant, word in zip(tenants, ("aardvark", "badger"), strict=True):
        with database.connect("app", tenant) as app:
            add_document(app, "secret.md", [f"The code word is {word}."])
            accepted = app.call("chat.begin_turn", p_message="What is the code word?", p_embedding=vector(1.0))
            job = app.value("SELECT id FROM inference.jobs WHERE turn_id = %s", [accepted["turn_id"]])
            app.call("inference.claim", p_job_id=job, p_worker="w", p_lease="1 minute")
            app.call(
                "inference.complete",
                p_job_id=job,
                p_worker="w",
                p_attempt=1,
                p_status="completed",
                p_content=f"It is {word} [1].",
                p_prompt_tokens=10,
                p_completion_tokens=5,
                p_event_source="/test",
                p_event_id=str(job),
            )
    return tenants


def tables(database: Database) -> list[str]:
    with database.connect() as operator:
        return [
            row[0]
            for row in operator.query(
                "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relrowsecurity AND has_table_privilege('app', c.oid, 'SELECT')"
            )
        ]


def test_a_search_finds_the_own_tenants_passages_only(database: Database, populated: Tenants) -> None:
    alpha, beta = populated
    for tenant, own, other in ((alpha, "aardvark", "badger"), (beta, "badger", "aardvark")):
        with database.connect("app", tenant) as app:
            for query in ("the code word", own, other, "aardvrak badgr"):
                found = app.rows("rag.search", p_query=query, p_embedding=vector(1.0), p_limit=20)
                assert [own in row[4] for row in found] == [True], "one passage, and it is the tenant's own"


def test_every_table_shows_the_functions_role_the_current_tenants_rows_only(
    database: Database, populated: Tenants
) -> None:
    visible = tables(database)
    assert {"rag.chunks", "chat.messages", "budget.ledger", "core.users"} <= set(visible)
    for tenant, other in (populated, populated[::-1]):
        with database.connect("app", tenant) as app:
            for table in visible:
                column = "id" if table == "core.tenants" else "tenant_id"
                seen = {row[0] for row in app.query(f"SELECT DISTINCT {column} FROM {table}")}
                assert other not in seen, table
                if table not in {
                    "budget.limits",
                    "core.role_grants",
                    "chat.shares",
                    "rag.embedding_queue",
                    "routing.aliases",
                }:
                    assert seen == {tenant}, table


@pytest.mark.parametrize("setting", [None, ""])
def test_without_a_tenant_nothing_is_visible(database: Database, populated: Tenants, setting: str | None) -> None:
    assert populated
    with database.connect("app") as app:
        if setting is not None:
            app.query("SELECT set_config('app.tenant_id', %s, false)", [setting])
        for table in tables(database):
            assert app.query(f"SELECT 1 FROM {table}") == [], table


def test_without_a_tenant_a_search_raises_rather_than_finds(database: Database, populated: Tenants) -> None:
    assert populated
    with database.connect("app") as app, pytest.raises(psycopg.Error) as raised:
        app.rows("rag.search", p_query="code word", p_embedding=vector(1.0))
    assert raised.value.sqlstate == "EA001"


def test_rows_cannot_be_written_into_another_tenant(database: Database, populated: Tenants) -> None:
    alpha, beta = populated
    with database.connect("app", alpha) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.run("INSERT INTO rag.collections (tenant_id, name) VALUES (%s, 'mine')", [beta])
    # Even if somebody granted the right, the policy would refuse.
    with database.connect() as operator:
        operator.run("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rag TO app")
    with database.connect("app", alpha) as app:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.run("INSERT INTO rag.collections (tenant_id, name) VALUES (%s, 'mine')", [beta])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.run("UPDATE rag.documents SET tenant_id = %s", [beta])
        assert app.run("UPDATE rag.documents SET name = 'x' WHERE tenant_id = %s", [beta]) == 0
        assert app.run("DELETE FROM rag.chunks WHERE tenant_id = %s", [beta]) == 0


def test_another_tenants_ids_are_unknown_to_every_operation(database: Database, populated: Tenants) -> None:
    alpha, beta = populated
    with database.connect("app", beta) as app:
        turn, conversation = app.query("SELECT id, conversation_id FROM chat.turns")[0]
        job = app.value("SELECT id FROM inference.jobs")
        document = app.value("SELECT id FROM rag.documents")
    with database.connect("app", alpha) as app:
        calls: list[tuple[str, dict[str, object]]] = [
            ("chat.read_turn", {"p_turn_id": turn}),
            ("chat.stop_turn", {"p_turn_id": turn}),
            ("chat.begin_turn", {"p_message": "Hi", "p_conversation_id": conversation}),
            ("inference.claim", {"p_job_id": job, "p_worker": "w", "p_lease": "1 minute"}),
            ("rag.read_document", {"p_document_id": document}),
        ]
        for function, arguments in calls:
            with pytest.raises(psycopg.Error) as raised:
                app.call(function, **arguments)
            assert raised.value.sqlstate == "EA002", function
        assert app.call("chat.turn_result", p_turn_id=turn) is None
        assert renew(app, alpha, job) == "lost"


def test_a_collection_of_another_tenant_cannot_be_searched(database: Database, populated: Tenants) -> None:
    alpha, beta = populated
    with database.connect("app", beta) as app:
        add_document(app, "x.md", ["private"], collection="hidden")
    with database.connect("app", alpha) as app, pytest.raises(psycopg.Error) as raised:
        app.rows("rag.search", p_query="private", p_embedding=vector(1.0), p_collections=["hidden"])
    assert raised.value.sqlstate == "EA002"


def test_a_conversation_is_its_users_own(database: Database, tenants: Tenants) -> None:
    with database.connect("app", tenants[0], "ann") as ann:
        accepted = ann.call("chat.begin_turn", p_message="Mine")
    with database.connect("app", tenants[0], "bob") as bob:
        for function, arguments in (
            ("chat.read_turn", {"p_turn_id": accepted["turn_id"]}),
            ("chat.stop_turn", {"p_turn_id": accepted["turn_id"]}),
            ("chat.begin_turn", {"p_message": "Hi", "p_conversation_id": accepted["conversation_id"]}),
        ):
            with pytest.raises(psycopg.Error) as raised:
                bob.call(function, **arguments)
            assert raised.value.sqlstate == "EA002", function


def test_internal_functions_are_closed(database: Database, tenants: Tenants) -> None:
    with database.connect("app", tenants[0]) as app:
        for statement in (
            "SELECT * FROM rag.nearest_chunks(NULL, NULL, NULL, 1)",
            "SELECT * FROM rag.matching_chunks(NULL, NULL, NULL, 1)",
            "SELECT events.emit('x', NULL, 'x', '{}', '{}')",
            "SELECT * FROM events.claim()",
            "SELECT core.provision_tenant('x', 'X')",
            "SELECT ops.sync_settings('{}', '{}')",
            "SELECT budget.settle(gen_random_uuid(), 0)",
            "SELECT budget.reserve(gen_random_uuid(), 1)",
            "SELECT inference.give_up(gen_random_uuid(), 'x')",
            "SELECT events.mark_consumed('c', 's', 'i')",
            "UPDATE chat.turns SET max_tokens = 1000000",
            "DELETE FROM chat.messages",
            "INSERT INTO inference.jobs (tenant_id, turn_id, tier, model) SELECT tenant_id, id, tier, model FROM chat.turns",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.query(statement)


def test_the_relay_sees_no_table(database: Database, populated: Tenants) -> None:
    assert populated
    with database.connect("relay") as relay:
        for table in ("events.outbox", "events.dead_letters"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                relay.query(f"SELECT * FROM {table}")


def test_a_dba_reads_every_tenant_and_writes_nothing(database: Database, populated: Tenants) -> None:
    with database.connect("dba_readonly") as dba:
        assert {row[0] for row in dba.query("SELECT tenant_id FROM chat.turns")} == set(populated)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            dba.run("DELETE FROM chat.turns")
