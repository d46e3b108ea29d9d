"""A turn's trace: what took how long, which attempts there were, and what was decided."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from tests.sql.steps import act, refused
from tests.sql.test_turns import begin, claim, complete, job_of
from tests.support import Caller, Database, add_document, vector

BEFORE = {"auth": 1.5, "rate_limit": 0.5, "embedding": 20.0}
TIMINGS = {"asked": 2.0, "first_token": 52.0, "last_token": 552.0}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def read(app: Caller, turn: str) -> Any:
    return app.call("chat.read_trace", p_turn_id=turn)


def spans(trace: Any, *names: str) -> list[Any]:
    return [span for span in trace["spans"] if not names or span["name"] in names]


def begun(span: Any) -> datetime:
    return datetime.fromisoformat(span["started_at"])


def ended(span: Any) -> datetime:
    return begun(span) + timedelta(milliseconds=span["duration_ms"])


def lose(app: Caller, job: UUID, worker: str) -> None:
    """Let a worker claim a job and die."""
    assert claim(app, job, worker, "1 millisecond")["outcome"] == "claimed"
    app.query("SELECT pg_sleep(0.002)")


def test_a_turns_steps_follow_each_other_and_its_decisions_say_why(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        add_document(app, "limits.md", ["The limit is ten.", "Another thing."])
        turn = begin(
            app, p_embedding=vector(1.0), p_timings=Jsonb(BEFORE), p_traceparent=f"00-{TRACE}-00f067aa0ba902b7-01"
        )["turn_id"]
        job = job_of(app, turn)
        claim(app, job)
        complete(app, job, p_timings=Jsonb(TIMINGS), p_finish_reason="stop")
        trace = read(app, turn)
    assert (trace["turn_id"], trace["status"], trace["trace_id"]) == (turn, "completed", TRACE)
    steps = {span["name"]: span for span in trace["spans"]}
    assert list(steps) == [
        "auth", "rate_limit", "embedding", "begin_turn", "retrieval", "routing", "queue", "attempt", "first_token", "tokens",
        "complete",
    ]  # fmt: skip
    assert {name: steps[name]["duration_ms"] for name in BEFORE} == BEFORE
    for earlier, later in (
        ("auth", "rate_limit"), ("rate_limit", "embedding"), ("embedding", "begin_turn"), ("begin_turn", "queue"),
        ("retrieval", "routing"), ("queue", "attempt"), ("first_token", "tokens"), ("tokens", "complete"),
    ):  # fmt: skip
        assert abs(ended(steps[earlier]) - begun(steps[later])) < timedelta(microseconds=2), (earlier, later)
    assert begun(steps["begin_turn"]) < begun(steps["retrieval"])
    assert ended(steps["routing"]) == ended(steps["begin_turn"])
    assert begun(steps["first_token"]) - begun(steps["attempt"]) == timedelta(milliseconds=2)
    assert (steps["first_token"]["duration_ms"], steps["tokens"]["duration_ms"]) == (50, 500)
    assert steps["tokens"]["attributes"] == {"tokens": 5, "tokens_per_second": 10.0}
    assert steps["retrieval"]["attributes"] == {"mode": "hybrid", "passages": 2}
    assert steps["attempt"]["attributes"] == {
        "worker": "w1", "model": "local/extractive-standard", "outcome": "completed",
    }  # fmt: skip
    assert steps["complete"]["attributes"] == {"status": "completed", "finish_reason": "stop"}
    assert {span["name"]: span["attempt"] for span in trace["spans"] if span["attempt"]} == dict.fromkeys(
        ("queue", "attempt", "first_token", "tokens", "complete"), 1
    )
    decisions = trace["decisions"]
    assert decisions["routing"]["rule"] == "everything else"
    assert decisions["routing"]["reason"]
    assert decisions["routing"]["considered"]
    assert decisions["retrieval"]["mode"] == "hybrid"
    first = decisions["retrieval"]["passages"][0]
    assert (first["n"], first["document"], first["vector_rank"]) == (1, "limits.md", 1)
    assert first["score"] > 0
    assert decisions["budget"]["settled_tokens"] == 25
    assert decisions["budget"]["reserved_tokens"] > 1024
    assert [(scope["scope"], scope["period"]) for scope in decisions["budget"]["scopes"]] == [
        ("tenant", "month"), ("tenant", "day"),
    ]  # fmt: skip


def test_an_attempt_whose_worker_died_is_seen_with_what_came_after_it(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect("app", tenants[0]) as app:
        turn = begin(app)["turn_id"]
        job = job_of(app, turn)
        lose(app, job, "w1")
        assert [row[2] for row in app.rows("inference.sweep")] == ["emitted"]
        waiting = read(app, turn)
        lose(app, job, "w2")
        # This time the broker delivers again before anybody sweeps.
        claim(app, job, "w3")
        complete(app, job, p_worker="w3", p_attempt=3, p_timings=Jsonb(TIMINGS))
        trace = read(app, turn)
    assert [(span["attempt"], span["duration_ms"] is None) for span in spans(waiting, "queue")] == [
        (1, False),
        (2, True),
    ]
    attempts = [
        (span["attempt"], span["attributes"]["worker"], span["attributes"]["outcome"])
        for span in spans(trace, "attempt")
    ]
    assert attempts == [(1, "w1", "lost"), (2, "w2", "lost"), (3, "w3", "completed")]
    assert [span["attempt"] for span in spans(trace, "queue")] == [1, 2, 3]
    assert [span["attempt"] for span in spans(trace, "tokens", "complete")] == [3, 3]


def test_a_worker_that_leaves_hands_its_attempt_back(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        turn = begin(app)["turn_id"]
        job = job_of(app, turn)
        claim(app, job)
        assert app.call("inference.hand_back", p_job_id=job, p_worker="w1", p_attempt=1)
        claim(app, job, "w2")
        trace = read(app, turn)
    assert [span["attributes"].get("outcome") for span in spans(trace, "attempt")] == ["handed_back", None]
    assert spans(trace, "attempt")[1]["duration_ms"] is None


def test_a_turn_that_nobody_finished_ends_with_its_reason(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        turn = begin(app)["turn_id"]
        job = job_of(app, turn)
        for _ in range(3):
            lose(app, job, "w1")
            app.rows("inference.sweep")
        trace = read(app, turn)
    assert [span["attributes"]["outcome"] for span in spans(trace, "attempt")] == ["lost"] * 3
    assert spans(trace, "complete")[0]["attributes"] == {"status": "failed", "code": "attempts_exhausted"}
    assert trace["decisions"]["budget"]["settled_tokens"] == 0


def test_a_fallback_stands_in_its_attempt_with_its_reason(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        turn = begin(app)["turn_id"]
        job = job_of(app, turn)
        claim(app, job)
        lease = {"p_job_id": job, "p_worker": "w1", "p_attempt": 1}
        next_one = app.call("inference.fall_back", **lease, p_code="model_timeout", p_detail="silent")
        app.call(
            "inference.fail",
            **lease,
            p_code="model_unavailable",
            p_detail="down",
            p_generated="",
            p_timings=Jsonb({"asked": 1}),
        )
        trace = read(app, turn)
    [fallback] = spans(trace, "fallback")
    assert (fallback["attempt"], fallback["duration_ms"]) == (1, 0)
    assert fallback["attributes"] == {
        "from": "local/extractive-standard", "to": next_one["model"], "code": "model_timeout", "detail": "silent",
    }  # fmt: skip
    assert trace["decisions"]["routing"]["fallbacks"][0]["to"] == next_one["model"]
    assert spans(trace, "attempt")[0]["attributes"]["code"] == "model_unavailable"
    assert not spans(trace, "tokens")


def test_who_answers_the_client_itself_waits_in_no_queue(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        turn = app.call(
            "chat.begin_completion", p_messages=Jsonb([{"role": "user", "content": "Hi"}]), p_worker="w1",
            p_lease="1 minute", p_timings=Jsonb({"auth": 1.0}),
        )["turn_id"]  # fmt: skip
        trace = read(app, turn)
    assert [span["name"] for span in spans(trace)] == ["auth", "begin_turn", "routing", "attempt"]


def test_a_trace_is_read_by_whoever_may_read_the_turn(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        accepted = begin(app)
    turn, shared = accepted["turn_id"], accepted["conversation_id"]
    reading = {"operation": "chat.read", "function": "chat.read_trace", "p_turn_id": turn}
    for tenant, subject in ((tenants[0], "bob"), (tenants[1], "ann")):
        with refused("EA002"):
            act(database, tenant, subject=subject, **reading)
    act(database, tenants[0], "chat.share", "chat.share_conversation", p_conversation_id=shared, p_whole_tenant=True)
    trace = act(database, tenants[0], subject="bob", **reading)
    assert [span["name"] for span in trace["spans"]] == ["begin_turn", "retrieval", "routing", "queue"]
    assert trace["decisions"]["budget"] is None


@pytest.mark.parametrize("role", ["app", "dba_readonly"])
def test_spans_are_rows_for_a_database_administrator_and_for_a_function_only_those_of_its_user(
    database: Database, tenants: Sequence[UUID], role: str
) -> None:
    for tenant in tenants:
        with database.connect("app", tenant) as app:
            begin(app)
    with database.connect(role, tenants[0] if role == "app" else None) as caller:
        rows = caller.query(
            "SELECT t.tenant_id, s.name FROM chat.turns AS t CROSS JOIN LATERAL chat.trace_spans(t.tenant_id, t.id) AS s"
            " WHERE s.name = 'routing' AND s.duration_ms > 0"
        )
        foreign = caller.query(
            "SELECT s.* FROM chat.turns AS t CROSS JOIN LATERAL chat.trace_spans(%s, t.id) AS s", [tenants[1]]
        )
    assert {row[0] for row in rows} == (set(tenants) if role == "dba_readonly" else {tenants[0]})
    assert bool(foreign) == (role == "dba_readonly")
