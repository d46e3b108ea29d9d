"""What holds for every event that the platform consumes: its effect once, however it comes; statuses that say what to do next.

A type of the catalogue without a case here fails the first test.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from shared.events import (
    CONSUMED,
    EMBEDDING_REQUESTED,
    INFERENCE_REQUESTED,
    INGESTION_RECEIVED,
    INGESTION_SUBMITTED,
    PING,
)
from tests.functions import upstream as model_server
from tests.functions.asgi import Reply, call, exchange
from tests.functions.platform import CONSUMERS, Mode, Platform, binary, structured, until
from tests.functions.test_events import event as make_event
from tests.functions.upstream import Answer, Upstream

RETRIED = {404, 408, 409, 429}
MODES = [binary, structured]


async def job(platform: Platform) -> dict[str, Any]:
    await platform.begin()
    [event] = platform.claim()
    return event


async def document(platform: Platform) -> dict[str, Any]:
    await platform.upload("a.md", b"Lunch is at noon.")
    [event] = platform.claim()
    return event


async def chunks(platform: Platform) -> dict[str, Any]:
    received = await document(platform)
    assert (await platform.post(received)).status == 200
    with platform.database.connect() as operator:
        operator.run("DELETE FROM events.inbox")
    [event] = platform.claim()
    return event


async def submission(platform: Platform) -> dict[str, Any]:
    data = {"name": "note.txt", "media_type": "text/plain", "content": "Lunch is at noon."}
    return make_event(platform, INGESTION_SUBMITTED, data)


@dataclass(frozen=True)
class Case:
    """One type: what leads to such an event, and how its effect is seen."""

    emit: Callable[[Platform], Awaitable[dict[str, Any]]]
    effect: str
    """A query that returns ((1,),) when there was one effect; without any, a zero."""
    running: str | None = None
    """A query that is true while the work is in somebody's hands; None for work that waits for no model server."""
    let_go: str = "SELECT 1"
    """Ends the lease of a worker that failed."""


CASES: Mapping[str, Case] = {
    INFERENCE_REQUESTED: Case(
        job,
        "SELECT count(*) FROM chat.messages AS m, budget.ledger AS l, inference.jobs AS j"
        " WHERE m.role = 'assistant' AND l.entry = 'settle' AND l.turn_id = j.turn_id AND j.status = 'completed'",
        "SELECT EXISTS (SELECT FROM inference.jobs WHERE status = 'running')",
        "UPDATE inference.jobs SET leased_until = now() WHERE status = 'running'",
    ),
    INGESTION_RECEIVED: Case(
        document,
        "SELECT count(*) FROM rag.chunks AS c, rag.documents AS d WHERE d.stage = 'embedding'",
    ),
    EMBEDDING_REQUESTED: Case(
        chunks,
        "SELECT count(*) FROM rag.embeddings AS e, rag.documents AS d WHERE d.status = 'indexed'",
        "SELECT EXISTS (SELECT FROM rag.embedding_queue WHERE leased_by IS NOT NULL)",
        "UPDATE rag.embedding_queue SET due_at = now()",
    ),
    INGESTION_SUBMITTED: Case(submission, "SELECT sum(version) FROM rag.documents"),
}
every_type = pytest.mark.parametrize("kind", sorted(CASES))


def effects(platform: Platform, kind: str) -> int:
    with platform.database.connect() as operator:
        return int(operator.value(CASES[kind].effect) or 0)


def inbox(platform: Platform) -> list[tuple[Any, ...]]:
    with platform.database.connect() as operator:
        return operator.query("SELECT tenant_id, source, id FROM events.inbox")


def assert_done_once(platform: Platform, kind: str, event: dict[str, Any]) -> None:
    assert effects(platform, kind) == 1
    assert inbox(platform) == [(platform.tenants[0], event["source"], str(event["id"]))]


def assert_poison(reply: Reply, case: object) -> None:
    assert 400 <= reply.status < 500, (case, reply)
    assert reply.status not in RETRIED, (case, reply)
    assert reply.code()


def test_every_type_that_is_consumed_has_a_case() -> None:
    assert set(CASES) == CONSUMED == set(CONSUMERS)


@every_type
@pytest.mark.parametrize(("first", "second"), list(product(MODES, MODES)))
async def test_an_event_that_comes_twice_has_its_effect_once(
    platform: Platform, upstream: Upstream, kind: str, first: Mode, second: Mode
) -> None:
    assert upstream
    event = await CASES[kind].emit(platform)
    assert effects(platform, kind) == 0
    assert (await platform.post(event, first)).status == 200
    assert_done_once(platform, kind, event)
    assert (await platform.post(event, second)).status == 200
    assert_done_once(platform, kind, event)


@asynccontextmanager
async def held(upstream: Upstream) -> AsyncIterator[asyncio.Event]:
    """Let the model server answer when the gate is open, and not before."""
    gate = asyncio.Event()

    def after_the_gate(answer: Answer) -> Answer:
        async def held_back(reply: model_server.Reply, request: dict[str, Any]) -> None:
            await gate.wait()
            await answer(reply, request)

        return held_back

    upstream.chat, upstream.embeddings = after_the_gate(upstream.chat), after_the_gate(upstream.embeddings)
    yield gate
    gate.set()


@pytest.mark.parametrize("kind", [kind for kind, case in sorted(CASES.items()) if case.running])
async def test_while_someone_holds_the_work_the_event_is_to_come_again(
    platform: Platform, upstream: Upstream, kind: str
) -> None:
    running = CASES[kind].running
    assert running
    event = await CASES[kind].emit(platform)
    async with held(upstream) as gate:
        working = asyncio.create_task(platform.post(event))
        with platform.database.connect() as operator:
            await until(lambda: operator.value(running))
        for mode in MODES:
            busy = await platform.post(event, mode)
            assert (busy.status, busy.code()) == (409, "in_progress")
        assert inbox(platform) == []
        gate.set()
        assert (await working).status == 200
    assert (await platform.post(event)).status == 200
    assert_done_once(platform, kind, event)


@every_type
async def test_deliveries_side_by_side_have_the_effect_once(platform: Platform, upstream: Upstream, kind: str) -> None:
    assert upstream
    event = await CASES[kind].emit(platform)
    replies = await asyncio.gather(*(platform.post(event, mode) for mode in MODES * 3))
    assert {reply.status for reply in replies} <= {200, 409}
    assert 200 in {reply.status for reply in replies}
    assert_done_once(platform, kind, event)


@contextmanager
def broken_inbox(platform: Platform) -> Iterator[None]:
    """Let every insert into the inbox fail."""
    plant = (
        "CREATE FUNCTION events.planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted'; END $$;"
        " CREATE TRIGGER planted BEFORE INSERT ON events.inbox FOR EACH ROW EXECUTE FUNCTION events.planted()"
    )
    with platform.database.connect() as operator:
        operator.run(plant)
        try:
            yield
        finally:
            operator.run("DROP FUNCTION events.planted() CASCADE")


@every_type
async def test_the_effect_and_its_inbox_row_are_one_transaction(
    platform: Platform, upstream: Upstream, kind: str
) -> None:
    assert upstream
    event = await CASES[kind].emit(platform)
    with broken_inbox(platform):
        reply = await platform.post(event)
        assert (reply.status, reply.code()) == (500, "internal_error")
    assert (effects(platform, kind), inbox(platform)) == (0, [])
    with platform.database.connect() as operator:
        operator.run(CASES[kind].let_go)
    assert (await platform.post(event)).status == 200
    assert_done_once(platform, kind, event)


def without(headers: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key != name}


def damaged(event: dict[str, Any]) -> Iterator[tuple[str, dict[str, str], bytes]]:
    """Yield requests that were this event before something happened to them."""
    for mode in MODES:
        headers, body = mode(event)
        for length in (0, 1, len(body) // 2, len(body) - 1):
            yield f"{mode.__name__}, {length} of {len(body)} bytes", headers, body[:length]
        yield f"{mode.__name__}, other bytes", headers, bytes(range(256))
        for content_type in ("text/plain", "application/xml", "application/octet-stream", "nonsense", ""):
            if mode is binary and event["type"] == INGESTION_SUBMITTED:
                continue  # data of another type are the document itself: tests/functions/test_datarefs.py
            yield f"{mode.__name__}, {content_type!r}", headers | {"content-type": content_type}, body
    headers, body = binary(event)
    for name in ("ce-specversion", "ce-id", "ce-source", "ce-type", "ce-tenantid"):
        yield f"no {name}", without(headers, name), body
    yield "another specversion", headers | {"ce-specversion": "9"}, body
    yield "data of another type", headers, b'"a text"'
    headers, body = structured(event)
    for name in ("specversion", "id", "source", "type", "tenantid", "data"):
        yield f"no {name}", headers, json.dumps(without(json.loads(body), name)).encode()


@every_type
async def test_what_is_left_of_a_damaged_event_is_poison_and_the_whole_one_is_still_taken(
    platform: Platform, upstream: Upstream, kind: str
) -> None:
    assert upstream
    event = await CASES[kind].emit(platform)
    before = platform.counts()
    for case, headers, body in damaged(event):
        assert_poison(await call(platform.serve(CONSUMERS[kind]), "POST", "/", headers, body), case)
    assert platform.counts() == before
    assert (await platform.post(event)).status == 200
    assert_done_once(platform, kind, event)


@every_type
async def test_a_request_that_breaks_off_has_no_effect(platform: Platform, upstream: Upstream, kind: str) -> None:
    assert upstream
    event = await CASES[kind].emit(platform)
    before = platform.counts()
    for mode in MODES:
        headers, body = mode(event)
        async with exchange(platform.serve(CONSUMERS[kind]), "POST", "/", headers, [body[:10], b""]) as under_way:
            under_way.disconnect()
            async for _ in under_way.chunks():
                pass
    assert platform.counts() == before
    assert (await platform.post(event)).status == 200
    assert_done_once(platform, kind, event)


async def test_events_of_one_document_may_come_in_any_order(platform: Platform, upstream: Upstream) -> None:
    assert upstream
    await platform.upload("a.md", b"Old.")
    await platform.upload("a.md", b"New.")
    older, newer = sorted(platform.claim(), key=lambda event: int(event["data"]["version"]))
    for event in (newer, older, newer):
        assert (await platform.post(event)).status == 200
    with platform.database.connect() as operator:
        assert operator.query("SELECT content FROM rag.chunks") == [("New.",)]
    assert inbox(platform) == [(platform.tenants[0], newer["source"], str(newer["id"]))]


async def test_an_event_of_a_job_that_has_ended_is_done(platform: Platform, upstream: Upstream) -> None:
    """The sweeper emits a job again whose event is only late: the two events of it come one after the other."""
    assert upstream
    event = await job(platform)
    with platform.database.connect() as operator:
        operator.run("UPDATE inference.jobs SET emitted_at = now() - interval '2 minutes'")
        operator.run("DELETE FROM events.outbox")
    assert (await platform.tick()).status == 200
    [again] = platform.claim()
    assert again["id"] != event["id"]
    assert [(await platform.post(e)).status for e in (again, event, again)] == [200, 200, 200]
    assert_done_once(platform, INFERENCE_REQUESTED, again)


@pytest.mark.parametrize("function", ["sweep", "probe"])
async def test_ticks_are_taken_in_both_modes_at_once_and_again(
    platform: Platform, upstream: Upstream, function: str
) -> None:
    assert upstream
    before = platform.counts()
    tick = make_event(
        platform, PING, {}, extensions={}, source="/apis/v1/namespaces/test/pingsources/p", id=str(uuid4())
    )
    requests = [mode(tick) for mode in MODES * 2]
    replies = await asyncio.gather(*(call(platform.serve(function), "POST", "/", *request) for request in requests))
    assert [reply.status for reply in replies] == [200] * 4
    assert platform.counts() == before
    headers, body = structured(tick)
    for length in (0, 1, len(body) // 2, len(body) - 1):
        assert_poison(await call(platform.serve(function), "POST", "/", headers, body[:length]), length)
    other = binary(tick | {"type": INFERENCE_REQUESTED})
    assert_poison(await call(platform.serve(function), "POST", "/", *other), "another type")
