"""The outbox delivers every committed event at least once, to one relay at a time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import psycopg
import pytest

from tests.support import Caller, Database


def emit(database: Database, tenant: UUID, count: int) -> None:
    with database.connect() as operator:
        operator.run(
            "SELECT events.emit('com.enterprise-agents.test.happened.v1', %s, n::text, '{\"tier\": null}', '{}')"
            " FROM generate_series(1, %s) AS n",
            [tenant, count],
        )


def due_now(database: Database) -> None:
    with database.connect() as operator:
        operator.run("UPDATE events.outbox SET available_at = now()")


def test_an_event_leaves_with_its_transaction_or_not_at_all(database: Database, tenants: Sequence[UUID]) -> None:
    with psycopg.connect(database.urls["app"]) as connection:
        caller = Caller(connection)
        caller.query("SELECT core.enter(%s, 'a', 'documents.write', '{member}')", [tenants[0]])
        caller.call("chat.begin_turn", p_message="Hi")
        connection.rollback()
    with database.connect("relay") as relay:
        assert relay.rows("events.claim") == []


def test_a_claimed_event_is_hidden_until_its_lease_ends(database: Database, tenants: Sequence[UUID]) -> None:
    emit(database, tenants[0], 1)
    with database.connect("relay") as relay:
        [event] = relay.rows("events.claim")
        assert "tier" not in event[5], "an attribute without a value is no attribute"
        assert relay.rows("events.claim") == []
        due_now(database)
        assert [row[0] for row in relay.rows("events.claim")] == [event[0]], "the relay died: another one gets it"
        relay.call("events.acknowledge", p_ids=[event[0]])
        due_now(database)
        assert relay.rows("events.claim") == []


def test_relays_side_by_side_never_get_the_same_event(database: Database, tenants: Sequence[UUID]) -> None:
    emit(database, tenants[0], 200)

    def drain(_: int) -> list[UUID]:
        claimed: list[UUID] = []
        with database.connect("relay") as relay:
            while batch := relay.rows("events.claim", p_limit=7):
                claimed += [row[0] for row in batch]
        return claimed

    with ThreadPoolExecutor(4) as threads:
        claimed = [id_ for ids in threads.map(drain, range(4)) for id_ in ids]
    assert len(claimed) == len(set(claimed)) == 200


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503, None])
def test_what_knative_retries_is_retried_later(database: Database, tenants: Sequence[UUID], status: int | None) -> None:
    emit(database, tenants[0], 1)
    with database.connect("relay") as relay:
        [event] = relay.rows("events.claim")
        assert relay.call("events.reject", p_id=event[0], p_status=status, p_error="no") == "retry"
        assert relay.rows("events.claim") == [], "not before its back-off"
        due_now(database)
        assert len(relay.rows("events.claim")) == 1


def test_poison_goes_to_the_dead_letters_with_the_last_answer(database: Database, tenants: Sequence[UUID]) -> None:
    emit(database, tenants[0], 1)
    with database.connect("relay") as relay:
        [event] = relay.rows("events.claim")
        assert relay.call("events.reject", p_id=event[0], p_status=400, p_error="bad event") == "dead"
        assert relay.call("events.reject", p_id=event[0], p_status=400, p_error="bad event") == "gone"
    with database.connect() as operator:
        assert operator.query("SELECT id, last_status, last_error FROM events.dead_letters") == [
            (event[0], 400, "bad event")
        ]
        assert operator.value("SELECT count(*) FROM events.outbox") == 0


def test_a_broker_that_keeps_failing_ends_in_the_dead_letters_but_an_unreachable_one_does_not(
    database: Database, tenants: Sequence[UUID]
) -> None:
    emit(database, tenants[0], 2)
    with database.connect() as operator:
        operator.run("UPDATE events.outbox SET attempts = 30, refusals = 11")
    with database.connect("relay") as relay:
        first, second = relay.rows("events.claim")
        assert relay.call("events.reject", p_id=first[0], p_status=503, p_error="overloaded") == "dead"
        assert relay.call("events.reject", p_id=second[0], p_status=None, p_error="refused") == "retry"


def test_an_outage_of_the_broker_does_not_count_as_its_refusal(database: Database, tenants: Sequence[UUID]) -> None:
    emit(database, tenants[0], 1)
    with database.connect("relay") as relay:
        for _ in range(20):
            [event] = relay.rows("events.claim")
            assert relay.call("events.reject", p_id=event[0], p_status=None, p_error="refused") == "retry"
            due_now(database)
        relay.rows("events.claim")
        assert relay.call("events.reject", p_id=event[0], p_status=503, p_error="starting") == "retry"


def test_a_commit_wakes_the_relay(database: Database, tenants: Sequence[UUID]) -> None:
    with psycopg.connect(database.urls["relay"], autocommit=True) as listener:
        listener.execute("LISTEN outbox")
        emit(database, tenants[0], 50)
        heard = list(listener.notifies(timeout=5, stop_after=1))
    assert [(notification.channel, notification.payload) for notification in heard] == [("outbox", "")]


def test_a_consumed_event_is_known_by_consumer_source_and_id(database: Database, tenants: Sequence[UUID]) -> None:
    mark = {"p_consumer": "c", "p_source": "/s", "p_id": "1"}
    with database.connect("postgres", tenants[0]) as owner:
        assert owner.call("events.mark_consumed", **mark) is True
        assert owner.call("events.mark_consumed", **mark) is False
        assert owner.call("events.mark_consumed", **(mark | {"p_consumer": "d"})) is True
    with database.connect("postgres", tenants[1]) as owner:
        assert owner.call("events.mark_consumed", **mark) is True, "another tenant's event of the same name is another"


def test_a_submitted_document_is_stored_once_however_often_its_event_comes(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as app:
        document = {"p_collection": "c", "p_name": "n", "p_media_type": "text/plain", "p_content": "x"}
        event = {"p_event_source": "/bucket", "p_event_id": "7"}
        assert app.call("rag.store_document", **document, **event) is not None
        assert app.call("rag.store_document", **document, **event) is None


def test_documents_whose_worker_died_are_emitted_again_then_failed(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app, database.connect() as operator:
        document = app.call(
            "rag.store_document", p_collection="c", p_name="n", p_media_type="text/plain", p_content="x"
        )
        operator.run("UPDATE rag.documents SET max_attempts = 3")
        for attempt in (1, 2, 3):
            lease = {"p_document_id": document, "p_version": 1, "p_worker": f"w{attempt}"}
            assert app.call("rag.claim_document", **lease, p_lease="1 minute")["outcome"] == "claimed"
            busy = app.call("rag.claim_document", **lease, p_lease="1 minute")
            assert busy == {"outcome": "busy"}
            assert operator.call("rag.sweep_documents") == 0
            operator.run("UPDATE rag.documents SET leased_until = now() - interval '1 second'")
            assert operator.call("rag.sweep_documents") == 1
        [status] = app.rows("rag.document_status", p_document_id=document)
        assert (status[5], status[9]) == ("failed", "attempts_exhausted")
