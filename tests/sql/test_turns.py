"""A turn from its question to its end, as the database sees it."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.steps import renew
from tests.support import Caller, Database, add_document, vector

LEASE = "1 minute"


def begin(caller: Caller, message: str = "What is the limit?", **arguments: object) -> Any:
    return caller.call("chat.begin_turn", p_message=message, **arguments)


def job_of(caller: Caller, turn: str) -> UUID:
    job: UUID = caller.value("SELECT id FROM inference.jobs WHERE turn_id = %s", [turn])
    return job


def claim(caller: Caller, job: UUID, worker: str = "w1", lease: str = LEASE) -> Any:
    return caller.call("inference.claim", p_job_id=job, p_worker=worker, p_lease=lease)


def complete(caller: Caller, job: UUID, content: str = "Ten [1].", **arguments: object) -> Any:
    defaults: dict[str, object] = {
        "p_job_id": job,
        "p_worker": "w1",
        "p_attempt": 1,
        "p_status": "completed",
        "p_content": content,
        "p_prompt_tokens": 20,
        "p_completion_tokens": 5,
        "p_event_source": "/test",
        "p_event_id": str(uuid4()),
    }
    return caller.call("inference.complete", **(defaults | arguments))


def fail(caller: Caller, job: UUID, generated: str = "") -> Any:
    return caller.call(
        "inference.fail",
        p_job_id=job,
        p_worker="w1",
        p_attempt=1,
        p_code="model_unavailable",
        p_detail="down",
        p_generated=generated,
        p_event_source="/test",
        p_event_id="1",
    )


def expire_leases(database: Database) -> None:
    with database.connect() as operator:
        operator.run("UPDATE inference.jobs SET leased_until = now() - interval '1 second' WHERE status = 'running'")


def test_beginning_a_turn_decides_everything_and_emits_its_event(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        add_document(app, "limits.md", ["The limit is ten."])
        accepted = begin(app, p_embedding=vector(1.0), p_traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    assert accepted["model"] == "local/extractive-standard"
    assert accepted["routing"]["rule"] == "everything else"
    assert accepted["retrieval"] == {"mode": "hybrid"}
    assert accepted["passages"][0]["document"] == "limits.md"
    assert accepted["replayed"] is False
    with database.connect("relay") as relay:
        events = {row[5]: row[3:] for row in relay.rows("events.claim")}
    id_, source, type_, subject, _, extensions, data = events["com.enterprise-agents.inference.requested.v1"]
    assert isinstance(id_, UUID)
    assert source == f"/tenants/{tenants[0]}"
    assert (type_, subject) == ("com.enterprise-agents.inference.requested.v1", accepted["turn_id"])
    assert extensions == {
        "tenantid": str(tenants[0]),
        "tier": "standard",
        "region": "test",
        "partitionkey": accepted["turn_id"],
        "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    }
    assert json.loads(data)["turn_id"] == accepted["turn_id"]


def test_one_key_is_one_turn_even_when_it_comes_twice_at_once(database: Database, tenants: Sequence[UUID]) -> None:
    def ask(_: int) -> Any:
        with database.connect("app", tenants[0]) as app:
            return begin(app, p_idempotency_key="once")

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(16)))
    assert len({answer["turn_id"] for answer in answers}) == 1
    assert sorted(answer["replayed"] for answer in answers) == [False] + [True] * 15
    with database.connect("app", tenants[0]) as app:
        assert app.value("SELECT count(*) FROM chat.turns") == 1
        assert app.value("SELECT count(*) FROM budget.reservations") == 1
        assert app.value("SELECT count(*) FROM chat.messages") == 1


def test_a_key_cannot_be_used_for_another_question_but_by_another_user(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as app:
        begin(app, p_idempotency_key="k")
        with pytest.raises(psycopg.Error) as raised:
            begin(app, "Something else?", p_idempotency_key="k")
        assert raised.value.sqlstate == "EA003"
    with database.connect("app", tenants[0], "bob") as bob:
        assert begin(bob, "Something else?", p_idempotency_key="k")["replayed"] is False


def test_completion_writes_message_citations_usage_and_settles(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        document = add_document(app, "limits.md", ["The limit is ten.", "Another thing."])
        accepted = begin(app, p_embedding=vector(1.0))
        job = job_of(app, accepted["turn_id"])
        claimed = claim(app, job)
        assert claimed["outcome"] == "claimed"
        assert claimed["messages"][-1] == {"role": "user", "content": "What is the limit?"}
        assert "<passages>\n[1] limits.md > limits.md\nThe limit is ten." in claimed["messages"][0]["content"]
        turn = complete(app, job, "It is ten [1]. Twice [1], and [9] is no passage, nor [0] or [99999].")
        assert turn["status"] == "completed"
        assert [(c["n"], c["document"], c["document_id"]) for c in turn["citations"]] == [
            (1, "limits.md", str(document))
        ]
        assert turn["usage"] == {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
        assert turn["charged_tokens"] == 25
        assert turn["budget"]["day"]["settled"] == 25
        assert turn["budget"]["day"]["reserved"] == 0
        assert app.value("SELECT count(*) FROM events.inbox WHERE consumer = 'inference'") == 1
        assert claim(app, job)["outcome"] == "done"


def test_usage_that_nobody_reported_is_counted(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        job = job_of(app, begin(app)["turn_id"])
        claim(app, job)
        turn = complete(app, job, "A short answer.", p_prompt_tokens=None, p_completion_tokens=None)
    assert turn["usage"]["prompt_tokens"] > 20
    assert turn["usage"]["completion_tokens"] >= 4
    assert turn["charged_tokens"] == turn["usage"]["total_tokens"]


def test_a_job_is_in_one_workers_hands_until_its_lease_ends(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        job = job_of(app, begin(app)["turn_id"])
        assert claim(app, job, "w1")["attempt"] == 1
        assert claim(app, job, "w2")["outcome"] == "busy"
        expire_leases(database)
        assert claim(app, job, "w2")["attempt"] == 2
        assert renew(app, tenants[0], job, "w1", 1) == "lost"
        assert renew(app, tenants[0], job, "w2", 2) == "held"
        with pytest.raises(psycopg.Error) as raised:
            complete(app, job)
        assert raised.value.sqlstate == "EA005"
        assert app.value("SELECT count(*) FROM chat.messages WHERE role = 'assistant'") == 0
        turn = complete(app, job, p_worker="w2", p_attempt=2)
        assert turn["charged_tokens"] == 25
        assert app.query("SELECT entry FROM budget.ledger ORDER BY id") == [("reserve",), ("release",), ("settle",)]


def test_a_failure_before_the_first_token_charges_nothing(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        job = job_of(app, begin(app)["turn_id"])
        claim(app, job)
        turn = fail(app, job)
        assert turn["error"] == {"code": "model_unavailable", "detail": "down"}
        assert turn["charged_tokens"] == 0
        assert turn["budget"]["day"]["reserved"] == 0
        assert turn["answer"] is None


def test_a_failure_in_mid_answer_charges_what_was_generated(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        job = job_of(app, begin(app)["turn_id"])
        claim(app, job)
        turn = fail(app, job, generated="Half of an answer")
        assert 0 < turn["charged_tokens"] == turn["usage"]["total_tokens"]
        assert turn["budget"]["day"]["reserved"] == 0


def test_the_sweeper_emits_abandoned_jobs_again_and_fails_those_out_of_attempts(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as app, database.connect("app") as sweeper:
        turn = begin(app)["turn_id"]
        job = job_of(app, turn)
        for attempt in (1, 2, 3):
            assert claim(app, job)["attempt"] == attempt
            assert sweeper.rows("inference.sweep") == [], "a living lease is left alone"
            expire_leases(database)
            outcome = "emitted" if attempt < 3 else "failed"
            assert [(row[0], str(row[1]), row[2]) for row in sweeper.rows("inference.sweep")] == [
                (tenants[0], turn, outcome)
            ]
        ended = app.call("chat.read_turn", p_turn_id=turn)
        assert ended["error"]["code"] == "attempts_exhausted"
        assert ended["charged_tokens"] == 0
        assert app.value("SELECT sum(reserved) FROM budget.balances") == 0
    with database.connect() as operator:
        assert operator.value("SELECT count(*) FROM events.outbox WHERE type LIKE '%%inference.requested%%'") == 3
        assert operator.query("SELECT last_error, attempts FROM events.dead_letters") == [("attempts_exhausted", 3)]


def test_a_job_whose_event_was_lost_is_emitted_again_and_expires_in_the_end(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as app, database.connect() as operator:
        turn = begin(app)["turn_id"]
        assert operator.rows("inference.sweep") == [], "it may still be on its way"
        operator.run("UPDATE inference.jobs SET emitted_at = now() - interval '2 minutes'")
        assert [row[2] for row in operator.rows("inference.sweep")] == ["emitted"]
        operator.run(
            "UPDATE inference.jobs SET emitted_at = now() - interval '2 minutes', created_at = now() - interval '2 hours'"
        )
        assert [row[3] for row in operator.rows("inference.sweep")] == ["expired"]
        assert app.call("chat.read_turn", p_turn_id=turn)["status"] == "failed"


def test_the_sweepers_tenant_is_the_callers_again_afterwards(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        claim(app, job_of(app, begin(app)["turn_id"]))
    with database.connect() as operator:
        operator.run("UPDATE inference.jobs SET attempts = 3")
    expire_leases(database)
    with database.connect("app", tenants[1]) as other:
        assert [row[2] for row in other.rows("inference.sweep")] == ["failed"]
        assert other.query("SELECT id FROM core.tenants") == [(tenants[1],)]


def test_a_queued_turn_stops_at_once_and_a_running_one_when_its_worker_hears(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as app:
        queued = begin(app)["turn_id"]
        stopped = app.call("chat.stop_turn", p_turn_id=queued)
        assert (stopped["status"], stopped["charged_tokens"]) == ("stopped", 0)
        assert claim(app, job_of(app, queued))["outcome"] == "done"

        running = begin(app)["turn_id"]
        job = job_of(app, running)
        claim(app, job)
        assert app.call("chat.stop_turn", p_turn_id=running)["status"] == "running"
        assert renew(app, tenants[0], job, "w1") == "stop"
        turn = complete(app, job, "Half", p_status="stopped", p_completion_tokens=1)
        assert (turn["status"], turn["answer"], turn["charged_tokens"]) == ("stopped", "Half", 21)


def test_the_history_of_a_conversation_is_sent_to_the_model(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        first = begin(app, "First?")
        claim(app, job_of(app, first["turn_id"]))
        complete(app, job_of(app, first["turn_id"]), "First answer.")
        failed = begin(app, "Failing?", p_conversation_id=first["conversation_id"])
        claim(app, job_of(app, failed["turn_id"]))
        fail(app, job_of(app, failed["turn_id"]))
        last = begin(app, "Second?", p_conversation_id=first["conversation_id"])
        messages = claim(app, job_of(app, last["turn_id"]))["messages"]
    assert [message["content"] for message in messages[1:]] == ["First?", "First answer.", "Second?"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]


def test_a_question_that_was_stopped_before_its_answer_is_no_history(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as app:
        stopped = begin(app, "Never mind?")
        app.call("chat.stop_turn", p_turn_id=stopped["turn_id"])
        last = begin(app, "And?", p_conversation_id=stopped["conversation_id"])
        messages = claim(app, job_of(app, last["turn_id"]))["messages"]
    assert [message["role"] for message in messages] == ["system", "user"]


def test_a_long_history_is_cut_to_its_latest_part(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        conversation = None
        for number in range(4):
            turn = begin(app, f"{number} " + "x" * 5000, p_conversation_id=conversation)
            conversation = turn["conversation_id"]
            claim(app, job_of(app, turn["turn_id"]))
            complete(app, job_of(app, turn["turn_id"]), "Yes.")
        last = begin(app, "And?", p_conversation_id=conversation)
        messages = claim(app, job_of(app, last["turn_id"]))["messages"]
    assert [message["content"][:2] for message in messages[1:]] == ["2 ", "Ye", "3 ", "Ye", "An"]


def test_a_token_of_an_unknown_tenant_begins_nothing(database: Database) -> None:
    with pytest.raises(psycopg.Error) as raised, database.connect("app", uuid4()) as app:
        begin(app)
    assert raised.value.sqlstate == "EA001"


def test_a_document_that_is_indexed_again_meanwhile_changes_nothing_for_the_turn(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as app:
        add_document(app, "limits.md", ["The limit is ten."])
        job = job_of(app, begin(app, p_embedding=vector(1.0))["turn_id"])
        first = claim(app, job)["messages"]
        add_document(app, "limits.md", ["The limit is twelve now.", "And more."])
        expire_leases(database)
        assert claim(app, job)["messages"] == first, "every attempt sees the same prompt"
        turn = complete(app, job, "It is ten [1].", p_attempt=2)
        assert [citation["quote"] for citation in turn["citations"]] == ["The limit is ten."]


def test_a_question_asked_while_a_document_is_indexed_again_is_answered(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as app:
        add_document(app, "limits.md", ["The limit is ten."])
        with psycopg.connect(database.urls["postgres"]) as indexing:
            indexing.execute("DELETE FROM rag.chunks")
            app.run("SET statement_timeout = '2s'")
            assert begin(app, p_embedding=vector(1.0))["passages"][0]["document"] == "limits.md"


def test_what_is_answered_after_a_question_was_asked_is_not_part_of_its_prompt(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as app:
        first = begin(app, "First?")
        second = begin(app, "Second?", p_conversation_id=first["conversation_id"])
        claim(app, job_of(app, first["turn_id"]))
        complete(app, job_of(app, first["turn_id"]), "x" * 10_000)
        messages = claim(app, job_of(app, second["turn_id"]))["messages"]
        assert [message["role"] for message in messages] == ["system", "user"]
        assert len(str(messages)) < second["reserved_tokens"] * 3


def test_a_replay_needs_no_model(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        turn = begin(app, p_idempotency_key="k")["turn_id"]
        with database.connect() as operator:
            operator.run("UPDATE routing.models SET enabled = false")
        assert begin(app, p_idempotency_key="k")["turn_id"] == turn


def test_a_stop_outlives_the_worker_that_should_have_heard_of_it(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app, database.connect() as operator:
        turn = begin(app)["turn_id"]
        job = job_of(app, turn)
        claim(app, job)
        app.call("chat.stop_turn", p_turn_id=turn)
        expire_leases(database)
        assert [row[2] for row in operator.rows("inference.sweep")] == ["emitted"]
        assert claim(app, job)["outcome"] == "done"
        assert app.call("chat.read_turn", p_turn_id=turn)["status"] == "stopped"
        assert app.value("SELECT sum(reserved + settled) FROM budget.balances") == 0


def test_a_job_that_cannot_be_ended_stops_no_other(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app, database.connect() as operator:
        broken, sound = begin(app)["turn_id"], begin(app)["turn_id"]
        for turn in (broken, sound):
            claim(app, job_of(app, turn))
        operator.run("UPDATE inference.jobs SET attempts = 3")
        operator.run("DELETE FROM budget.reservations WHERE turn_id = %s", [broken])
        expire_leases(database)
        outcomes = {str(row[1]): (row[2], row[3]) for row in operator.rows("inference.sweep")}
        assert outcomes == {broken: ("error", "EA002"), sound: ("failed", "attempts_exhausted")}
        assert operator.rows("inference.sweep") == [], "it waits its turn"


def test_a_stop_of_the_last_attempt_ends_as_stopped(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app, database.connect() as operator:
        operator.run("ALTER TABLE inference.jobs ALTER max_attempts SET DEFAULT 1")
        turn = begin(app)["turn_id"]
        claim(app, job_of(app, turn))
        app.call("chat.stop_turn", p_turn_id=turn)
        expire_leases(database)
        assert [row[2] for row in operator.rows("inference.sweep")] == ["stopped"]
        ended = app.call("chat.read_turn", p_turn_id=turn)
        assert (ended["status"], ended["charged_tokens"]) == ("stopped", 0)


def test_an_estimated_completion_is_never_above_what_the_model_was_held_to(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as app:
        job = job_of(app, begin(app, p_max_tokens=100)["turn_id"])
        claim(app, job)
        turn = complete(app, job, "人" * 1000, p_prompt_tokens=None, p_completion_tokens=None, p_status="stopped")
        assert turn["usage"]["completion_tokens"] == 100
        reserved = app.value("SELECT tokens FROM budget.reservations")
        assert turn["charged_tokens"] <= reserved


def test_two_sweeps_side_by_side_do_not_deadlock(database: Database, tenants: Sequence[UUID]) -> None:
    for tenant in [*tenants] * 4:
        with database.connect("app", tenant) as app:
            claim(app, job_of(app, begin(app)["turn_id"]))
    with database.connect() as operator:
        operator.run("UPDATE inference.jobs SET attempts = 3, emitted_at = now() - random() * interval '1 minute'")
    expire_leases(database)

    def sweep(_: int) -> list[str]:
        with database.connect("app") as sweeper:
            return [row[2] for row in sweeper.rows("inference.sweep")]

    with ThreadPoolExecutor(4) as threads:
        outcomes = [outcome for swept in threads.map(sweep, range(4)) for outcome in swept]
    assert outcomes == ["failed"] * 8


QUESTION = "What is the limit?"


def ask(app: Caller) -> Callable[[], Any]:
    return lambda: begin(app)


def ask_reranked(app: Caller) -> Callable[[], Any]:
    reranked = rerank(app)
    return lambda: begin(app, p_reranked=reranked)


def complete_reranked(app: Caller) -> Callable[[], Any]:
    reranked = rerank(app)
    asked = {"p_messages": json.dumps([{"role": "user", "content": QUESTION}]), "p_collections": [], "p_embedded": True}
    return lambda: app.call("chat.begin_completion", **asked, p_reranked=reranked)


def ask_again(app: Caller) -> Callable[[], Any]:
    turn = begin(app)["turn_id"]
    job = job_of(app, turn)
    claim(app, job)
    complete(app, job)
    return lambda: app.call("chat.regenerate_turn", p_turn_id=turn)


def answer_citing(app: Caller) -> Callable[[], Any]:
    job = job_of(app, begin(app)["turn_id"])
    claim(app, job)
    return lambda: complete(app, job, "Ten [1], or eleven [2].")


def rerank(app: Caller) -> str:
    """Find what a question is answered from, and put what is found last first, as a reranking model might."""
    found = app.call("rag.find", p_query=QUESTION)["results"]
    assert len(found) == 2
    passages = [row | {"rerank_score": score} for score, row in enumerate(reversed(found))]
    return json.dumps({"outcome": "done", "passages": passages})


STORED: dict[Callable[[Caller], Callable[[], Any]], str] = {
    ask: "SELECT document_name FROM chat.passages WHERE turn_id = %s",
    ask_reranked: "SELECT document_name FROM chat.passages WHERE turn_id = %s AND rerank_score IS NOT NULL",
    complete_reranked: "SELECT document_name FROM chat.passages WHERE turn_id = %s AND rerank_score IS NOT NULL",
    ask_again: "SELECT document_name FROM chat.passages WHERE turn_id = %s",
    answer_citing: "SELECT c.document_name FROM chat.citations AS c JOIN chat.messages AS m ON m.id = c.message_id"
    " WHERE m.turn_id = %s",
}
DELETIONS: dict[str, tuple[str, Callable[[UUID], dict[str, object]]]] = {
    "rag.delete_document": ("documents.delete", lambda gone: {"p_document_id": gone}),
    "rag.delete_collection": ("collections.delete", lambda _: {"p_name": "leaving"}),
}


@pytest.mark.parametrize("deletion", DELETIONS)
@pytest.mark.parametrize("prepare", STORED)
def test_nothing_is_quoted_of_a_document_that_is_just_being_deleted(
    database: Database, tenants: Sequence[UUID], prepare: Callable[[Caller], Callable[[], Any]], deletion: str
) -> None:
    operation, arguments = DELETIONS[deletion]
    with (
        database.connect("app", tenants[0]) as app,
        database.connect("app", tenants[0], operation=operation) as owner,
        database.connect() as observer,
        ThreadPoolExecutor() as pool,
    ):
        gone = add_document(app, "gone.md", ["The limit is ten."], "leaving")
        add_document(app, "kept.md", ["The limit is eleven."])
        use = prepare(app)
        with owner.connection.transaction():
            owner.call(deletion, **arguments(gone))
            using = pool.submit(use)
            pid = app.connection.info.backend_pid
            while not observer.value("SELECT cardinality(pg_blocking_pids(%s)) > 0", [pid]):
                assert not using.done()
        assert app.query(STORED[prepare], [using.result()["turn_id"]]) == [("kept.md",)]


def test_nothing_is_quoted_of_a_document_that_is_deleted_while_the_passages_are_reranked(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as app, database.connect() as operator:
        gone = add_document(app, "gone.md", ["The limit is ten."])
        add_document(app, "kept.md", ["The limit is eleven."])
        use = ask_reranked(app)
        operator.run("DELETE FROM rag.documents WHERE id = %s", [gone])
        accepted = use()
    assert [(p["n"], p["document"]) for p in accepted["passages"]] == [(1, "kept.md")]
