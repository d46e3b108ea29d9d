"""Turns of the OpenAI API that begin, and end, several in one call: as each by itself."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.steps import act, refused
from tests.support import Caller, Database

STANDARD = "local/extractive-standard"
LEASE = "1 minute"
EXCEEDED = "EA004"
QUESTION = [{"role": "user", "content": "What is the limit?"}]
TIMINGS = {"auth": 0.1, "rate_limit": 0.2}


@pytest.fixture
def ann(database: Database, tenants: Sequence[UUID]) -> Any:
    """A user of the first tenant."""
    with database.connect("app", tenants[0]) as caller:
        yield caller


def request(**changes: Any) -> dict[str, Any]:
    asked = {"request": {"messages": QUESTION, "parameters": {"temperature": 0.5}}, "model": STANDARD, "max_tokens": 50}
    return asked | {"traceparent": None, "timings": TIMINGS} | changes


def begin(caller: Caller, *requests: dict[str, Any]) -> Any:
    return caller.call("chat.begin_completions", p_requests=json.dumps(requests), p_worker="w", p_lease=LEASE)


def run_of(accepted: dict[str, Any], **changes: Any) -> dict[str, Any]:
    ended = {"status": "completed", "content": "Ten.", "tool_calls": None, "finish_reason": "stop"}
    used = {"prompt_tokens": 20, "completion_tokens": 5, "first_token_ms": 12.5, "timings": {"asked": 1.5}}
    return {"job_id": accepted["job"]["job_id"], "turn_id": accepted["turn_id"], "attempt": 1} | ended | used | changes


def complete(database: Database, tenant: UUID, *runs: dict[str, Any]) -> Any:
    with database.connect("app") as app, app.connection.transaction():
        app.call("core.enter_function", p_tenant_id=tenant, p_function="openai-api")
        return app.call("inference.complete_runs", p_worker="w", p_runs=json.dumps(runs))


STORED = {
    "turn": ("chat.turns", "id", "to_jsonb(t) - '{id,created_at,started_at,finished_at,timings}'::text[]"),
    "timings": ("chat.turns", "id", "ARRAY(SELECT jsonb_object_keys(t.timings) ORDER BY 1)"),
    "spans": ("chat.turns", "id", "ARRAY(SELECT s.name FROM chat.trace_spans(t.tenant_id, t.id) AS s ORDER BY s.name)"),
    "job": (
        "inference.jobs",
        "turn_id",
        "to_jsonb(t) - '{id,turn_id,created_at,emitted_at,leased_until,history}'::text[]",
    ),
    "attempt": ("inference.jobs", "turn_id", "(t.history -> 0) - '{claimed_at,ended_at}'::text[]"),
    "message": ("chat.messages", "turn_id", "to_jsonb(t) - '{id,turn_id,created_at}'::text[]"),
    "reservation": (
        "budget.reservations",
        "turn_id",
        "to_jsonb(t) - '{turn_id,created_at,closed_at,expires_at}'::text[]",
    ),
    "ledger": ("budget.ledger", "turn_id", "to_jsonb(t) - '{id,turn_id,at}'::text[]"),
}
"""Table, column with the turn's id, and what is compared: all but ids and moments."""


def stored(operator: Caller, turn: str) -> dict[str, Any]:
    """Return all that is stored of a turn, but for ids and moments."""
    return {
        name: operator.query(f"SELECT {what} FROM {table} AS t WHERE t.{column} = %s ORDER BY 1", [turn])
        for name, (table, column, what) in STORED.items()
    }


def balances(operator: Caller) -> list[Any]:
    return operator.query("SELECT scope, period, settled, reserved FROM budget.balances ORDER BY 1, 2")


def test_turns_that_begin_and_end_together_are_stored_as_one_by_itself(
    database: Database, tenants: Sequence[UUID], ann: Caller
) -> None:
    tenant = tenants[0]
    alone = ann.call(
        "chat.begin_completion", p_messages=json.dumps(QUESTION), p_parameters='{"temperature": 0.5}', p_model=STANDARD,
        p_max_tokens=50, p_worker="w", p_lease=LEASE, p_timings=json.dumps(TIMINGS),
    )  # fmt: skip
    both = begin(ann, request(), request())
    for accepted in both.values():
        assert accepted.keys() == alone.keys()
        assert accepted["job"].keys() == alone["job"].keys()
        own = {"turn_id", "job_id", "created_at", "job"}
        for document, model in ((accepted, alone), (accepted["job"], alone["job"])):
            assert {n: v for n, v in document.items() if n not in own} == {
                n: v for n, v in model.items() if n not in own
            }
    with database.connect() as operator:
        expected = stored(operator, alone["turn_id"])
        assert [stored(operator, accepted["turn_id"]) for accepted in both.values()] == [expected, expected]
        assert {row[3] for row in balances(operator)} == {3 * alone["reserved_tokens"]}

    with database.connect("app") as app, app.connection.transaction():
        app.call("core.enter_function", p_tenant_id=tenant, p_function="openai-api")
        ended = app.call(
            "inference.complete", p_job_id=alone["job"]["job_id"], p_worker="w", p_attempt=1, p_status="completed",
            p_content="Ten.", p_prompt_tokens=20, p_completion_tokens=5, p_first_token_ms=12.5, p_pieces=1,
            p_finish_reason="stop", p_timings='{"asked": 1.5}',
        )  # fmt: skip
    answers = complete(database, tenant, *(run_of(accepted) for accepted in both.values()))
    own = {"turn_id", "message_id", "created_at", "finished_at"}
    for answer in answers.values():
        told = {name: value for name, value in ended.items() if name not in {"answer", "tool_calls"}}
        assert answer.keys() == told.keys()
        assert {n: v for n, v in answer.items() if n not in own} == {n: v for n, v in told.items() if n not in own}
    with database.connect() as operator:
        expected = stored(operator, alone["turn_id"])
        assert [stored(operator, accepted["turn_id"]) for accepted in both.values()] == [expected, expected]
        assert {row[2:] for row in balances(operator)} == {(75, 0)}
        assert operator.rows("budget.verify") == []


def test_what_needs_more_than_a_model_begins_alone(database: Database, tenants: Sequence[UUID], ann: Caller) -> None:
    with database.connect() as operator:
        operator.run(
            "INSERT INTO routing.health (model, state, retry_at) VALUES (%s, 'open', now() - interval '1 minute')",
            ["local/extractive-light"],
        )
        operator.run(
            "INSERT INTO routing.aliases (tenant_id, name, model, collections) VALUES (%s, 'handbook', 'auto', '{rules}')",
            [tenants[0]],
        )
    begun = begin(ann, request(model="handbook"), request(), request(model="local/extractive-light"))
    assert list(begun) == ["1"], "neither an alias nor a model that is on trial"
    with database.connect() as operator:
        assert operator.value("SELECT count(*) FROM chat.turns") == 1


def test_a_refusal_of_one_or_of_their_sum_leaves_nothing_of_all(
    database: Database, tenants: Sequence[UUID], ann: Caller
) -> None:
    needed = begin(ann, request())["0"]["reserved_tokens"]
    act(
        database, tenants[0], "budgets.update", "budget.set_limit", p_scope="tenant", p_holder_id=tenants[0], p_period="day",
        p_tokens=3 * needed, roles=("tenant_admin", "platform_admin"),
    )  # fmt: skip
    with database.connect() as operator:
        before = balances(operator)
    with refused(EXCEEDED):
        begin(ann, request(), request(), request())
    with refused("EA006"):
        begin(ann, request(), request(model="no-such-model"))
    with database.connect() as operator:
        assert balances(operator) == before
        assert operator.value("SELECT count(*) FROM chat.turns") == 1
    assert len(begin(ann, request(), request())) == 2, "these fit"


def test_a_run_that_was_lost_does_not_hinder_the_others(
    database: Database, tenants: Sequence[UUID], ann: Caller
) -> None:
    first, second = begin(ann, request(), request()).values()
    assert list(complete(database, tenants[0], run_of(first, attempt=2), run_of(second))) == ["1"]
    assert complete(database, tenants[0], run_of(second)) == {}, "it has ended"
    assert complete(database, tenants[1], run_of(first)) == {}, "it is another tenant's"
    with database.connect() as operator:
        assert operator.query("SELECT status FROM chat.turns ORDER BY status") == [("completed",), ("running",)]


def test_a_run_that_used_more_than_it_held_ends_alone(database: Database, tenants: Sequence[UUID], ann: Caller) -> None:
    first, second = begin(ann, request(), request()).values()
    with pytest.raises(psycopg.errors.RaiseException):
        complete(database, tenants[0], run_of(first), run_of(second, completion_tokens=10_000))
    with database.connect() as operator:
        assert operator.value("SELECT count(*) FROM chat.turns WHERE status = 'running'") == 2
    assert len(complete(database, tenants[0], run_of(first))) == 1


def test_many_at_once_and_alone_neither_overshoot_nor_wait_for_each_other_for_ever(
    database: Database, tenants: Sequence[UUID]
) -> None:
    """Two users of one tenant, one of them with a limit, in turns of several and of one, while turns are stopped."""
    with database.connect("app", tenants[0]) as caller:
        needed = begin(caller, request())["0"]["reserved_tokens"]
        ann_id = caller.value("SELECT core.current_user_id()")
    act(
        database, tenants[0], "budgets.update", "budget.set_limit", p_scope="user", p_holder_id=ann_id, p_period="month",
        p_tokens=20 * needed,
    )  # fmt: skip

    refusals: list[str | None] = []

    def work(number: int) -> int:
        done = 0
        with database.connect("app", tenants[0], ("ann", "bob")[number % 2]) as caller:
            for turn in range(8):
                try:
                    begun = list(begin(caller, *[request()] * (1 + (number + turn) % 4)).values())
                except psycopg.Error as error:
                    refusals.append(error.sqlstate)
                    continue
                if turn % 3 == 2:
                    caller.call("chat.stop_turn", p_turn_id=begun[0]["turn_id"])
                done += len(complete(database, tenants[0], *(run_of(accepted) for accepted in reversed(begun))))
        return done

    with ThreadPoolExecutor(6) as pool:
        done = sum(pool.map(work, range(6)))
    assert set(refusals) <= {EXCEEDED}
    with database.connect() as operator:
        assert operator.rows("budget.verify") == []
        assert operator.value("SELECT count(*) FROM chat.turns WHERE status = 'completed'") == done
        assert {row[3] for row in balances(operator)} == {needed}, "the first of all is still running"


IDS = {
    "chat.turns": "id", "chat.messages": "id", "inference.jobs": "id", "core.users": "id", "core.api_keys": "id",
    "budget.reservations": "turn_id",
}  # fmt: skip


@pytest.mark.parametrize("table", IDS)
def test_one_row_is_found_by_its_id_before_there_are_statistics(database: Database, table: str) -> None:
    """Another index that begins with the tenant would read all of the tenant's rows, each time."""
    condition = {"inference.jobs": " AND status = 'running'", "budget.reservations": " AND closed_at IS NULL"}.get(
        table, ""
    )
    with database.connect() as operator, operator.connection.transaction():
        operator.run("SET LOCAL enable_seqscan = off")
        operator.run("SET LOCAL enable_bitmapscan = off")
        plan = operator.query(
            f"EXPLAIN (FORMAT JSON) SELECT FROM {table} WHERE tenant_id = %s AND {IDS[table]} = %s{condition}",
            [uuid4(), uuid4()],
        )[0][0]
    assert plan[0]["Plan"]["Index Name"] == f"{table.partition('.')[2]}_pkey"
