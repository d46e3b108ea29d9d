"""Which documents are indexed by a job of their own: by their size, or because a Service had not the time."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import pytest

from tests.support import Caller, Database

RECEIVED = "com.enterprise-agents.ingestion.received.v1"
LARGE = 1000
"""LARGE_DOCUMENT_BYTES here."""


@pytest.fixture
def operator(database: Database) -> Iterator[Caller]:
    with database.connect() as caller:
        caller.run("SELECT ops.sync_settings(jsonb_build_object('large_document_bytes', %s::text), '{}')", [LARGE])
        yield caller


@pytest.fixture
def app(database: Database, tenants: Sequence[UUID]) -> Iterator[Caller]:
    with database.connect("app", tenants[0]) as caller:
        yield caller


def store(app: Caller, size: int, name: str = "a.txt") -> UUID:
    document: UUID = app.call(
        "rag.store_document", p_collection="c", p_name=name, p_media_type="text/plain", p_original=b"x" * size
    )
    return document


def claim(app: Caller, document: UUID, version: int = 1) -> dict[str, Any]:
    """Lease a document; return what names the lease."""
    lease = {"p_document_id": document, "p_version": version, "p_worker": "w"}
    assert app.call("rag.claim_document", **lease, p_lease="1 minute")["outcome"] == "claimed"
    return lease


def fail(app: Caller, lease: dict[str, Any], code: str) -> str:
    cause = {"p_code": code, "p_detail": "Why.", "p_event_source": "test", "p_event_id": code}
    outcome: str = app.call("rag.fail_document", **lease, **cause)
    return outcome


def sizes(operator: Caller) -> list[str]:
    """Return the attribute size of every event that has asked for an indexing, in their order."""
    rows = operator.query("SELECT extensions ->> 'size' FROM events.outbox WHERE type = %s ORDER BY seq", [RECEIVED])
    return [size for (size,) in rows]


def let_pass(operator: Caller, minutes: int) -> None:
    """Let the last event of every document be older, without the trigger that would emit another one."""
    operator.run("SET session_replication_role = replica")
    operator.run("UPDATE rag.documents SET emitted_at = emitted_at - make_interval(mins => %s)", [minutes])
    operator.run("RESET session_replication_role")


def end_leases(operator: Caller) -> None:
    operator.run("UPDATE rag.documents SET leased_until = now() - interval '1 second'")


@pytest.mark.parametrize(("size", "told"), [(1, "small"), (LARGE - 1, "small"), (LARGE, "large"), (LARGE + 1, "large")])
def test_a_document_is_large_from_the_set_size_on(operator: Caller, app: Caller, size: int, told: str) -> None:
    store(app, size)
    assert sizes(operator) == [told]


def test_each_version_is_as_large_as_it_is(operator: Caller, app: Caller) -> None:
    assert store(app, LARGE) == store(app, 1) == store(app, LARGE + 1)
    assert sizes(operator) == ["large", "small", "large"]


def test_the_size_of_a_document_is_told_again_by_the_sweeper_and_by_a_retry(operator: Caller, app: Caller) -> None:
    documents = [store(app, size, name) for size, name in ((1, "a"), (LARGE, "b"))]
    let_pass(operator, 60)
    assert operator.call("rag.sweep_documents") == 2
    assert sizes(operator)[:2] == ["small", "large"]
    assert sorted(sizes(operator)[2:]) == ["large", "small"]
    for document in documents:
        assert fail(app, claim(app, document), "damaged_document") == "failed"
        app.call("rag.retry_document", p_document_id=document)
    assert sizes(operator)[4:] == ["small", "large"]


@pytest.mark.parametrize(("size", "minutes", "swept"), [(1, 2, 1), (LARGE, 2, 0), (LARGE, 11, 1)])
def test_a_job_that_waits_for_its_turn_is_not_soon_asked_for_again(
    operator: Caller, app: Caller, size: int, minutes: int, swept: int
) -> None:
    store(app, size)
    let_pass(operator, minutes)
    assert operator.call("rag.sweep_documents") == swept


@pytest.mark.parametrize("code", ["extraction_timeout", "extraction_out_of_memory"])
def test_what_a_service_has_not_the_means_for_begins_again_as_a_job_once(
    operator: Caller, app: Caller, code: str
) -> None:
    document = store(app, 1)
    assert fail(app, claim(app, document), code) == "enlarged"
    state = app.call("rag.read_document", p_document_id=document)
    assert (state["status"], state["error_code"], state["attempts"]) == ("received", None, 1)
    assert sizes(operator) == ["small", "large"]
    # The event of the Service is consumed: what comes of it now is done.
    assert operator.query("SELECT id FROM events.inbox") == [(code,)]

    assert fail(app, claim(app, document), code) == "failed"
    state = app.call("rag.read_document", p_document_id=document)
    assert (state["status"], state["error_code"], state["error_detail"]) == ("failed", code, "Why.")
    assert sizes(operator) == ["small", "large"]


def test_the_last_attempt_of_a_document_fails_for_its_own_reason(operator: Caller, app: Caller) -> None:
    document = store(app, 1)
    operator.run("UPDATE rag.documents SET max_attempts = 1")
    assert fail(app, claim(app, document), "extraction_timeout") == "failed"
    assert sizes(operator) == ["small"]


def test_what_three_workers_have_not_finished_gets_a_job(operator: Caller, app: Caller) -> None:
    document = store(app, 1)
    for _ in range(4):
        claim(app, document)
        end_leases(operator)
        assert operator.call("rag.sweep_documents") == 1
    assert sizes(operator) == ["small", "small", "small", "large", "large"]


def test_a_database_without_the_setting_takes_every_document_for_small(operator: Caller, app: Caller) -> None:
    operator.run("DELETE FROM ops.settings WHERE name = 'large_document_bytes'")
    store(app, LARGE)
    assert sizes(operator) == ["small"]
