"""The outbox delivers every committed event at least once, to one relay at a time."""

import json
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.steps import refused
from tests.support import Caller, Database

TEST = "com.enterprise-agents.test.happened.v1"


def emit(database: Database, tenant: UUID, count: int) -> None:
    with database.connect() as operator:
        operator.run(
            "SELECT events.emit('com.enterprise-agents.test.happened.v1', %s, n::text, '{\"tier\": null}', '{}')"
            " FROM generate_series(1, %s) AS n",
            [tenant, count],
        )


def emit_ordered(caller: Caller, tenant: UUID, subject: str, partition: str = "p") -> None:
    extensions = json.dumps({"partitionkey": partition})
    caller.query("SELECT events.emit(%s, %s, %s, %s, '{}', true)", [TEST, tenant, subject, extensions])


def due_now(database: Database) -> None:
    with database.connect() as operator:
        operator.run("UPDATE events.outbox SET available_at = now(), leased_until = now()")


@dataclass(frozen=True)
class Claimed:
    """What a claim returned, and what a relay does with it."""

    relay: Caller
    seq: int
    attempt: int
    ordered: bool
    id: UUID
    source: str
    type: str
    subject: str
    created_at: datetime
    extensions: dict[str, Any]
    data: str

    def acknowledge(self) -> None:
        self.relay.call("events.acknowledge", p_seqs=[self.seq])

    def reject(self, status: int | None, error: str = "no", retry_after: float | None = None) -> str | None:
        refusal = {"seq": self.seq, "attempt": self.attempt, "status": status, "error": error}
        rows = self.relay.rows("events.reject", p_refusals=json.dumps([refusal | {"retry_after": retry_after}]))
        return rows[0][1] if rows else None


def claim(relay: Caller, limit: int = 100) -> list[Claimed]:
    return [Claimed(relay, *row) for row in relay.rows("events.claim", p_limit=limit)]


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
        [event] = claim(relay)
        assert "tier" not in event.extensions, "an attribute without a value is no attribute"
        assert claim(relay) == []
        due_now(database)
        [again] = claim(relay)
        assert (again.id, again.attempt) == (event.id, 2), "the relay died: another one gets it"
        assert event.reject(400) is None, "who lost the lease has no say any more"
        again.acknowledge()
        due_now(database)
        assert claim(relay) == []


def test_relays_side_by_side_never_get_the_same_event(database: Database, tenants: Sequence[UUID]) -> None:
    emit(database, tenants[0], 200)

    def drain(_: int) -> list[int]:
        claimed: list[int] = []
        with database.connect("relay") as relay:
            while batch := claim(relay, 7):
                claimed += [event.seq for event in batch]
        return claimed

    with ThreadPoolExecutor(4) as threads:
        claimed = [seq for seqs in threads.map(drain, range(4)) for seq in seqs]
    assert len(claimed) == len(set(claimed)) == 200


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503, None])
def test_what_knative_retries_is_retried_later(database: Database, tenants: Sequence[UUID], status: int | None) -> None:
    emit(database, tenants[0], 1)
    with database.connect("relay") as relay:
        assert relay.call("events.next_due") is None
        [event] = claim(relay)
        assert event.reject(status) == "retry"
        assert claim(relay) == [], "not before its back-off"
        assert 0 < relay.call("events.next_due") <= 0.5
        due_now(database)
        assert len(claim(relay)) == 1


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(None, 0.3, 0.5), (0.1, 0.3, 0.5), (40, 39, 40), (86_400, 299, 300), (-5, 0.3, 0.5)]
)
def test_a_broker_may_ask_for_patience_within_bounds(
    database: Database, tenants: Sequence[UUID], asked: float | None, least: float, most: float
) -> None:
    emit(database, tenants[0], 1)
    with database.connect("relay") as relay:
        [event] = claim(relay)
        assert event.reject(429, retry_after=asked) == "retry"
        assert least < relay.call("events.next_due") <= most


@pytest.mark.parametrize("status", [300, 400, 401, 403, 410, 413, 422])
def test_poison_goes_to_the_dead_letters_with_the_last_answer(
    database: Database, tenants: Sequence[UUID], status: int
) -> None:
    emit(database, tenants[0], 1)
    with database.connect("relay") as relay:
        [event] = claim(relay)
        assert event.reject(status, "bad event") == "dead"
        assert event.reject(status, "bad event") is None
    with database.connect() as operator:
        assert operator.query("SELECT id, last_status, last_error FROM events.dead_letters") == [
            (event.id, status, "bad event")
        ]
        assert operator.value("SELECT count(*) FROM events.outbox") == 0


def test_an_event_that_is_a_dead_letter_already_stays_the_one_it_is(
    database: Database, tenants: Sequence[UUID]
) -> None:
    """The broker stored it, its answer was lost, its consumer refused it; then the relay's copy is refused too."""
    emit(database, tenants[0], 2)
    with database.connect("relay") as relay, database.connect("app", tenants[0]) as app:
        twice, once = claim(relay)
        assert app.call(
            "events.bury",
            p_source=twice.source,
            p_id=str(twice.id),
            p_type=twice.type,
            p_subject=twice.subject,
            p_emitted_at=twice.created_at,
            p_extensions="{}",
            p_data="{}",
            p_last_status=422,
            p_last_error="its consumer",
        )
        refusals = [{"seq": event.seq, "attempt": 1, "status": 400, "error": "the broker"} for event in (twice, once)]
        outcomes: dict[int, str] = dict(relay.rows("events.reject", p_refusals=json.dumps(refusals)))
        assert outcomes == {twice.seq: "dead", once.seq: "dead"}
    with database.connect() as operator:
        assert dict(operator.query("SELECT id, last_error FROM events.dead_letters")) == {
            twice.id: "its consumer",
            once.id: "the broker",
        }
        assert operator.value("SELECT count(*) FROM events.outbox") == 0


def test_the_refusals_of_a_batch_are_one_call(database: Database, tenants: Sequence[UUID]) -> None:
    emit(database, tenants[0], 4)
    with database.connect("relay") as relay:
        statuses = (503, 400, None, 429)
        events = claim(relay)
        refusals = [
            {"seq": event.seq, "attempt": 1, "status": status, "error": str(status)}
            for event, status in zip(events, statuses, strict=True)
        ]
        outcomes: dict[int, str] = dict(relay.rows("events.reject", p_refusals=json.dumps(refusals)))
        assert [outcomes[event.seq] for event in events] == ["retry", "dead", "retry", "retry"]
    with database.connect() as operator:
        assert operator.query("SELECT refusals, last_status FROM events.outbox ORDER BY seq") == [
            (1, 503),
            (0, None),
            (1, 429),
        ]


def test_a_broker_that_keeps_failing_ends_in_the_dead_letters_but_an_unreachable_one_does_not(
    database: Database, tenants: Sequence[UUID]
) -> None:
    emit(database, tenants[0], 2)
    with database.connect() as operator:
        operator.run("UPDATE events.outbox SET attempts = 30, refusals = 11")
    with database.connect("relay") as relay:
        first, second = claim(relay)
        assert first.reject(503, "overloaded") == "dead"
        assert second.reject(None, "refused") == "retry"


def test_an_outage_of_the_broker_does_not_count_as_its_refusal(database: Database, tenants: Sequence[UUID]) -> None:
    emit(database, tenants[0], 1)
    with database.connect("relay") as relay:
        for _ in range(20):
            [event] = claim(relay)
            assert event.reject(None, "refused") == "retry"
            due_now(database)
        [event] = claim(relay)
        assert event.reject(503, "starting") == "retry"


def test_an_ordered_event_waits_for_the_earlier_ones_of_its_partition(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect() as operator, database.connect("relay") as relay, database.connect("relay") as other:
        for subject in ("1", "2", "3"):
            emit_ordered(operator, tenants[0], subject)
        emit_ordered(operator, tenants[0], "another key's", "q")
        emit_ordered(operator, tenants[1], "another tenant's")
        emit(database, tenants[0], 1)
        claimed = {event.subject: event for event in claim(relay) if event.ordered}
        assert set(claimed) == {"1", "another key's", "another tenant's"}
        assert claim(other) == [], "leased by another relay"
        assert claimed["1"].reject(503) == "retry"
        assert claim(other) == [], "in its back-off"
        due_now(database)
        [again] = [event for event in claim(other) if event.subject == "1" and event.ordered]
        again.acknowledge()
        [second] = claim(relay)
        assert second.subject == "2"
        assert second.reject(400) == "dead"
        [third] = claim(relay)
        assert third.subject == "3", "a dead letter holds up nothing"


def test_what_was_committed_before_leaves_before_and_nothing_waits_for_a_number_that_is_not_committed(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with (
        psycopg.connect(database.urls["postgres"]) as early,
        database.connect() as operator,
        database.connect("relay") as relay,
    ):
        emit_ordered(Caller(early), tenants[0], "lower number, later commit")
        emit_ordered(operator, tenants[0], "committed")
        [event] = claim(relay)
        assert event.subject == "committed"
        emit_ordered(operator, tenants[0], "emitted after both")
        assert claim(relay) == []
        early.commit()
        [late] = claim(relay)
        assert late.subject == "lower number, later commit", "of two at the same time neither waits for the other"
        event.acknowledge()
        assert claim(relay) == [], "what came after waits for both"
        late.acknowledge()
        assert [event.subject for event in claim(relay)] == ["emitted after both"]


def test_a_transaction_that_rolled_back_holds_up_nothing(database: Database, tenants: Sequence[UUID]) -> None:
    with psycopg.connect(database.urls["postgres"]) as undone, database.connect() as operator:
        emit_ordered(Caller(undone), tenants[0], "never")
        emit_ordered(operator, tenants[0], "1")
        undone.rollback()
    with database.connect("relay") as relay:
        assert [event.subject for event in claim(relay)] == ["1"]


def test_relays_side_by_side_keep_the_order_of_every_partition(database: Database, tenants: Sequence[UUID]) -> None:
    """Writers commit while relays claim, refuse now and then, and acknowledge: each partition is accepted in its order."""
    accepted: dict[str, list[int]] = {}
    written = threading.Event()

    def write(partition: str) -> None:
        with psycopg.connect(database.urls["postgres"]) as connection:
            for number in range(25):
                emit_ordered(Caller(connection), tenants[0], str(number), partition)
                connection.commit()

    def carry(_: int) -> None:
        with database.connect("relay") as relay, database.connect() as operator:
            while True:
                ended = written.is_set()
                events = claim(relay, 8)
                for event in events:
                    if event.attempt == 1 and int(event.subject) % 4 == 0:
                        event.reject(503)
                        operator.run("UPDATE events.outbox SET available_at = now() WHERE seq = %s", [event.seq])
                    else:
                        accepted.setdefault(event.extensions["partitionkey"], []).append(int(event.subject))
                        event.acknowledge()
                if ended and operator.value("SELECT count(*) FROM events.outbox") == 0:
                    return

    with ThreadPoolExecutor(7) as threads:
        relays = [threads.submit(carry, number) for number in range(3)]
        for writer in [threads.submit(write, partition) for partition in "abcd"]:
            writer.result()
        written.set()
        for relay in relays:
            relay.result()
    assert accepted == {partition: list(range(25)) for partition in "abcd"}


def test_ordered_events_do_not_starve_the_others_nor_the_reverse(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect() as operator:
        for number in range(20):
            emit_ordered(operator, tenants[0], "first", f"partition {number}")
            emit_ordered(operator, tenants[0], "blocked", f"partition {number}")
    emit(database, tenants[0], 20)
    with database.connect("relay") as relay:
        events = claim(relay, 10)
        assert [event.ordered for event in events].count(True) == 5
        assert len(events) == 10
        assert {event.subject for event in events if event.ordered} == {"first"}


def test_an_ordered_event_names_its_partition(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect() as operator, pytest.raises(psycopg.errors.CheckViolation):
        operator.query("SELECT events.emit(%s, %s, 's', '{}', '{}', true)", [TEST, tenants[0]])


def test_claims_write_no_index_and_read_no_table_from_end_to_end(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("postgres") as operator:
        operator.run("ANALYZE events.outbox")
        emit(database, tenants[0], 3000)
        operator.run("UPDATE events.outbox SET available_at = now() + interval '1 hour' WHERE seq %% 3 = 0")
        operator.run("VACUUM events.outbox")
        before = operator.query("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
        assert before
        stats = (
            "SELECT n_tup_upd, n_tup_hot_upd, seq_scan FROM pg_stat_user_tables WHERE relid = 'events.outbox'::regclass"
        )
        updated, hot, scans = operator.query(stats)[0]
        for _ in range(3):
            assert len(operator.rows("events.claim", p_limit=100)) == 100
        operator.call("events.next_due")
        operator.query("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
        operator.query("SELECT 1")
        after = operator.query(stats)[0]
    assert after == (updated + 300, hot + 300, scans)


def kill(database: Database, tenant: UUID, count: int = 1) -> list[UUID]:
    """Emit events and let the broker refuse them for good; return their ids."""
    emit(database, tenant, count)
    with database.connect("relay") as relay:
        events = claim(relay)
        assert [event.reject(400, "bad") for event in events] == ["dead"] * count
    return [event.id for event in events]


def test_a_dead_letter_is_replayed_under_its_own_id(database: Database, tenants: Sequence[UUID]) -> None:
    first, second = kill(database, tenants[0], 2)
    with database.connect() as dba, database.connect("relay") as relay:
        dba.call("events.replay", p_id=first)
        [event] = claim(relay)
        assert (event.id, event.attempt, event.type, event.extensions) == (
            first,
            1,
            TEST,
            {"tenantid": str(tenants[0])},
        )
        assert dba.query("SELECT id FROM events.dead_letters") == [(second,)]
        assert dba.query("SELECT action, object, data FROM compliance.audit_log WHERE action = 'event.replayed'") == [
            ("event.replayed", str(first), {"type": TEST})
        ]
        with refused("EA002"):
            dba.call("events.replay", p_id=first)
        assert event.reject(400, "still bad") == "dead", "it may die again"


def test_all_dead_letters_of_a_type_or_a_tenant_are_replayed(database: Database, tenants: Sequence[UUID]) -> None:
    kill(database, tenants[0], 3)
    kill(database, tenants[1], 2)
    with database.connect() as dba:
        assert dba.call("events.replay_all", p_type="com.enterprise-agents.other.happened.v1") == 0
        assert dba.call("events.replay_all", p_type=TEST, p_tenant_id=tenants[1]) == 2
        assert dba.query("SELECT DISTINCT tenant_id FROM events.outbox") == [(tenants[1],)]
        assert dba.call("events.replay_all") == 3
        assert dba.value("SELECT count(*) FROM events.outbox") == 5
        assert dba.call("events.replay_all") == 0


def test_replayed_events_of_a_partition_keep_their_order(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect() as dba, database.connect("relay") as relay:
        for subject in ("1", "2"):
            emit_ordered(dba, tenants[0], subject)
            [event] = claim(relay)
            event.reject(400)
        assert dba.call("events.replay_all") == 2
        [first] = claim(relay)
        assert (first.subject, first.ordered) == ("1", True)
        first.acknowledge()
        assert [event.subject for event in claim(relay)] == ["2"]


def test_an_event_whose_work_has_ended_is_not_replayed(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app, database.connect() as dba, database.connect("relay") as relay:
        for name in ("ended.txt", "waiting.txt"):
            app.call("chat.begin_turn", p_message="Hi")
            app.call("rag.store_document", p_collection="c", p_name=name, p_media_type="text/plain", p_original="x")
        assert [event.reject(400) for event in claim(relay)] == ["dead"] * 4
        dba.run("UPDATE rag.documents SET version = 2 WHERE name = 'ended.txt'")
        dba.run(
            "UPDATE inference.jobs SET status = 'completed' WHERE id = (SELECT min(id::text)::uuid FROM inference.jobs)"
        )
        for (id_,) in dba.query("SELECT id FROM events.dead_letters WHERE events.work_ended(type, tenant_id, data)"):
            with refused("EA013"):
                dba.call("events.replay", p_id=id_)
        assert dba.call("events.replay_all") == 2
        assert sorted(event.type for event in claim(relay)) == [
            "com.enterprise-agents.inference.requested.v1",
            "com.enterprise-agents.ingestion.received.v1",
        ]
        assert dba.value("SELECT count(*) FROM events.dead_letters") == 2


@pytest.mark.parametrize("role", ["app", "relay", "dba_readonly"])
def test_no_role_that_logs_in_replays(database: Database, tenants: Sequence[UUID], role: str) -> None:
    [id_] = kill(database, tenants[0])
    for call in ("events.replay(%s)", "events.replay_all(p_tenant_id => %s)"):
        with database.connect(role) as caller, pytest.raises(psycopg.errors.InsufficientPrivilege):
            caller.query(f"SELECT {call}", [id_])


def test_a_commit_wakes_the_relay(database: Database, tenants: Sequence[UUID]) -> None:
    with psycopg.connect(database.urls["relay"], autocommit=True) as listener:
        listener.execute("LISTEN outbox")
        emit(database, tenants[0], 50)
        heard = list(listener.notifies(timeout=60, stop_after=1))
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
        document = {"p_collection": "c", "p_name": "n", "p_media_type": "text/plain", "p_original": "x"}
        event = {"p_event_source": "/bucket", "p_event_id": "7"}
        assert app.call("rag.store_document", **document, **event) is not None
        assert app.call("rag.store_document", **document, **event) is None


def test_documents_whose_worker_died_are_emitted_again_then_failed(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app, database.connect() as operator:
        document = app.call(
            "rag.store_document", p_collection="c", p_name="n", p_media_type="text/plain", p_original="x"
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
        state = app.call("rag.read_document", p_document_id=document)
        assert (state["status"], state["error_code"]) == ("failed", "attempts_exhausted")


def test_whatever_takes_an_event_marks_it_as_consumed(database: Database) -> None:
    with database.connect() as operator:
        taking = operator.query(
            "SELECT p.oid::regproc::text, p.prosrc FROM pg_proc AS p WHERE 'p_event_id' = ANY (p.proargnames)"
        )
    assert {"inference.complete", "inference.fail", "rag.store_document"} <= {name for name, _ in taking}
    marks = re.compile(r"events\.mark_consumed\(|rag\.consume_requested\(")
    assert [name for name, body in taking if not marks.search(body)] == []


def test_a_tenant_that_is_deleted_takes_its_events_along(database: Database, tenants: Sequence[UUID]) -> None:
    kill(database, tenants[0])
    emit(database, tenants[0], 2)
    emit(database, tenants[1], 1)
    with database.connect() as operator:
        operator.run("DELETE FROM core.tenants WHERE id = %s", [tenants[0]])
        assert operator.query("SELECT tenant_id FROM events.outbox") == [(tenants[1],)]
        assert operator.value("SELECT count(*) FROM events.dead_letters") == 0
