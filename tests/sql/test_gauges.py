"""What the database tells Prometheus of the platform's state, over all tenants."""

import re
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

import pytest

from tests.sql.test_embedding_queue import chunked, numbered
from tests.sql.test_events import emit, emit_ordered
from tests.support import Caller, Database, embed_chunks, vector

NAME = re.compile(r"enterprise_agent_[a-z_]+")
TIERS = ("light", "standard", "heavy")

Gauges = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def app(database: Database, tenants: Sequence[UUID]) -> Iterator[Caller]:
    with database.connect("app", tenants[0]) as caller:
        yield caller


def gauges(database: Database) -> Gauges:
    """Return the gauges as the sweeper reads them, by name and labels."""
    with database.connect("app") as function:
        rows = function.rows("ops.gauges")
    assert all(NAME.fullmatch(name) and meaning for name, _, _, meaning in rows)
    found = {(name, frozenset(labels.items())): value for name, labels, value, _ in rows}
    assert len(found) == len(rows)
    return found


def value(database: Database, name: str, **labels: str) -> float:
    return gauges(database)[f"enterprise_agent_{name}", frozenset(labels.items())]


def test_a_platform_without_work_has_every_gauge_at_rest(database: Database) -> None:
    with database.connect() as operator:
        models = operator.query("SELECT name, tier FROM routing.models WHERE enabled")
    told = gauges(database)
    at_rest = {f"enterprise_agent_{name}": 0.0 for name in ("outbox_events", "outbox_lag_seconds", "dead_letters")}
    expected = {(name, frozenset[tuple[str, str]]()): amount for name, amount in at_rest.items()}
    for tier in TIERS:
        expected["enterprise_agent_jobs_oldest_seconds", frozenset({("tier", tier)})] = 0
        for status in ("queued", "running"):
            expected["enterprise_agent_jobs", frozenset({("tier", tier), ("status", status)})] = 0
    for status in ("received", "processing"):
        expected["enterprise_agent_documents", frozenset({("status", status)})] = 0
    for purpose in ("index", "reembed"):
        for name in ("chunks", "oldest_seconds"):
            expected[f"enterprise_agent_embedding_queue_{name}", frozenset({("purpose", purpose)})] = 0
    for model, tier in models:
        expected["enterprise_agent_model_available", frozenset({("model", model), ("tier", tier)})] = 1
    assert told == expected


def test_the_outbox_is_counted_over_all_tenants_and_its_lag_is_of_what_nobody_has_taken(
    database: Database, tenants: Sequence[UUID]
) -> None:
    emit(database, tenants[0], 2)
    emit(database, tenants[1], 1)
    with database.connect() as operator:
        emit_ordered(operator, tenants[1], "ordered")
        operator.run(
            "UPDATE events.outbox SET available_at = now() - interval '90 s' WHERE NOT ordered AND subject = '1'"
        )
    assert value(database, "outbox_events") == 4
    assert 90 <= value(database, "outbox_lag_seconds") < 150
    with database.connect() as operator:
        operator.run("UPDATE events.outbox SET available_at = now() - interval '200 s' WHERE ordered")
    assert 200 <= value(database, "outbox_lag_seconds") < 260
    with database.connect("relay") as relay:
        assert len(relay.rows("events.claim")) == 4
    assert (value(database, "outbox_events"), value(database, "outbox_lag_seconds")) == (4, 0)


def test_an_event_that_waits_for_the_end_of_its_back_off_is_no_lag(database: Database, tenants: Sequence[UUID]) -> None:
    emit(database, tenants[0], 1)
    with database.connect() as operator:
        operator.run(
            "UPDATE events.outbox SET available_at = now() + interval '1 h', created_at = now() - interval '1 h'"
        )
    assert (value(database, "outbox_events"), value(database, "outbox_lag_seconds")) == (1, 0)


def test_dead_letters_are_counted_until_they_are_replayed(database: Database, tenants: Sequence[UUID]) -> None:
    emit(database, tenants[0], 2)
    with database.connect("relay") as relay:
        for row in relay.rows("events.claim"):
            relay.rows(
                "events.reject", p_refusals=f'[{{"seq": {row[0]}, "attempt": {row[1]}, "status": 400, "error": "no"}}]'
            )
    assert (value(database, "dead_letters"), value(database, "outbox_events")) == (2, 0)
    with database.connect() as operator:
        operator.call("events.replay_all")
    assert value(database, "dead_letters") == 0


def test_the_queue_of_embeddings_is_as_old_as_the_chunk_whose_turn_it_is_in_any_tenant(
    database: Database, tenants: Sequence[UUID], app: Caller
) -> None:
    chunked(app, "a.txt", numbered("first", 3))
    with database.connect("app", tenants[1]) as other:
        chunked(other, "b.txt", numbered("second", 2))
    assert value(database, "embedding_queue_chunks", purpose="index") == 5
    with database.connect() as operator:
        operator.run(
            "UPDATE rag.embedding_queue SET turn_at = now() - interval '10 min' WHERE tenant_id = %s", [tenants[1]]
        )
    assert 600 <= value(database, "embedding_queue_oldest_seconds", purpose="index") < 660
    assert value(database, "embedding_queue_oldest_seconds", purpose="reembed") == 0
    with database.connect("app", tenants[1]) as other:
        embed_chunks(other, lambda _: vector(1))
    assert value(database, "embedding_queue_chunks", purpose="index") == 3
    assert value(database, "embedding_queue_oldest_seconds", purpose="index") < 60


def test_vectors_by_another_model_are_told_apart(database: Database, app: Caller) -> None:
    chunked(app, "a.txt", numbered("chunk", 2))
    with database.connect() as operator:
        operator.run(
            "WITH other AS ("
            "  INSERT INTO rag.embedding_models (name, width, status) VALUES ('other', 3, 'building') RETURNING id)"
            " INSERT INTO rag.embedding_queue (tenant_id, chunk_id, model_id, document_id, version, text_hash, turn_at)"
            " SELECT tenant_id, chunk_id, other.id, document_id, version, text_hash, now() - interval '1 h'"
            " FROM rag.embedding_queue, other"
        )
    assert value(database, "embedding_queue_chunks", purpose="index") == 2
    assert value(database, "embedding_queue_chunks", purpose="reembed") == 2
    assert value(database, "embedding_queue_oldest_seconds", purpose="index") < 60
    assert 3600 <= value(database, "embedding_queue_oldest_seconds", purpose="reembed") < 3660


def test_documents_on_their_way_are_counted(database: Database, app: Caller) -> None:
    chunked(app, "a.txt", ["one"])
    app.call("rag.store_document", p_collection="default", p_name="b.txt", p_media_type="text/plain", p_original="text")
    assert value(database, "documents", status="received") == 1
    assert value(database, "documents", status="processing") == 1


@pytest.mark.parametrize(("state", "available"), [("closed", 1), ("open", 0), ("half_open", 0)])
def test_a_model_is_available_while_its_breaker_is_closed(database: Database, state: str, available: int) -> None:
    with database.connect() as operator:
        [(model, tier)] = operator.query("SELECT name, tier FROM routing.models WHERE enabled ORDER BY name LIMIT 1")
        operator.run(
            "INSERT INTO routing.health (model, state, retry_at, latency_ms)"
            " VALUES (%(model)s, %(state)s, CASE WHEN %(state)s <> 'closed' THEN now() END, 250)",
            {"model": model, "state": state},
        )
    assert value(database, "model_available", model=model, tier=tier) == available
    assert value(database, "model_first_token_seconds", model=model, tier=tier) == 0.25
    with database.connect() as operator:
        operator.run("UPDATE routing.models SET enabled = false WHERE name = %s", [model])
    assert ("enterprise_agent_model_available", frozenset({("model", model), ("tier", tier)})) not in gauges(database)
