"""The relay between the outbox and a broker that accepts, refuses or is not there."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from aiohttp import ClientSession, ClientTimeout

from functions.relay import main as relaying
from functions.relay.main import Relay, listen
from infra.local.postgres import EmbeddedPostgres
from shared.database import Database as Pool
from shared.events import INFERENCE_REQUESTED, INGESTION_RECEIVED
from tests.functions.platform import until
from tests.support import Caller, Database, add_document

RESPONSE = "HTTP/1.1 {status} Told\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"


class Sink:
    """A broker: keeps what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], Any]] = []
        self.statuses: dict[str, int] = {}
        self.body = b"told"
        self.url = ""
        self.arrived = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        headers = {name.lower(): value for name, value in headers.items()}
        data = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.received.append((headers, data))
        self.arrived.set()
        status = self.statuses.get(headers["ce-type"], 202)
        writer.write(RESPONSE.format(status=status, length=len(self.body)).encode() + self.body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    sink = Sink()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
    sink.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    yield sink
    server.close()


MakeRelay = Callable[..., Awaitable[Relay]]


@pytest.fixture
async def make_relay(database: Database) -> AsyncIterator[MakeRelay]:
    pool = Pool(database.urls["relay"], pool_size=2)
    await pool.open()
    async with ClientSession(timeout=ClientTimeout(5)) as session:

        async def make(url: str, **overrides: str) -> Relay:
            return Relay(pool, session, url, overrides)

        yield make
    await pool.close()


def begin(database: Database, tenant: UUID) -> Any:
    """Begin a turn of an indexed document's tenant, which puts two events into the outbox."""
    with database.connect("app", tenant) as app:
        add_document(app, "a.md", ["Text."])
        return app.call("chat.begin_turn", p_message="What?", p_traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")


def outbox(operator: Caller) -> list[tuple[Any, ...]]:
    return operator.query(
        "SELECT type, attempts, last_status, last_error, available_at > now() FROM events.outbox ORDER BY seq"
    )


async def test_events_are_posted_in_binary_mode_and_leave_the_outbox(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay
) -> None:
    accepted = begin(database, tenants[0])
    relay = await make_relay(sink.url, cluster="north", region="overridden")
    assert await relay.relay_batch() == 2
    assert await relay.relay_batch() == 0
    by_type = {headers["ce-type"]: (headers, data) for headers, data in sink.received}
    assert set(by_type) == {INGESTION_RECEIVED, INFERENCE_REQUESTED}
    headers, data = by_type[INFERENCE_REQUESTED]
    assert data["turn_id"] == accepted["turn_id"]
    UUID(headers["ce-id"])
    datetime.fromisoformat(headers["ce-time"])
    named = {name: headers[name] for name in headers if name.startswith("ce-") and name not in {"ce-id", "ce-time"}}
    assert named == {
        "ce-specversion": "1.0",
        "ce-source": f"/tenants/{tenants[0]}",
        "ce-type": INFERENCE_REQUESTED,
        "ce-subject": accepted["turn_id"],
        "ce-tenantid": str(tenants[0]),
        "ce-tier": "standard",
        "ce-partitionkey": accepted["turn_id"],
        "ce-traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "ce-region": "overridden",
        "ce-cluster": "north",
    }
    assert headers["content-type"] == "application/json"
    with database.connect() as operator:
        assert outbox(operator) == []


async def test_what_a_broker_refuses_for_now_stays_and_waits(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "platform")
    begin(database, tenants[0])
    sink.statuses[INFERENCE_REQUESTED] = 500
    sink.body = b"\xff no \x00 room"
    relay = await make_relay(sink.url)
    assert await relay.relay_batch() == 2
    with database.connect() as operator:
        assert outbox(operator) == [(INFERENCE_REQUESTED, 1, 500, "\ufffd no  room", True)]
        assert await relay.relay_batch() == 0, "it waits for its back-off"
        operator.run("UPDATE events.outbox SET available_at = now()")
        del sink.statuses[INFERENCE_REQUESTED]
        assert await relay.relay_batch() == 1
        assert outbox(operator) == []
    [rejected] = [vars(r)["fields"] for r in caplog.records if r.getMessage() == "event_rejected"]
    assert (rejected["event_type"], rejected["status"], rejected["outcome"]) == (INFERENCE_REQUESTED, 500, "retry")


async def test_what_a_broker_refuses_for_good_is_a_dead_letter(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay
) -> None:
    begin(database, tenants[0])
    sink.statuses[INFERENCE_REQUESTED] = 400
    relay = await make_relay(sink.url)
    assert await relay.relay_batch() == 2
    with database.connect() as operator:
        assert outbox(operator) == []
        assert operator.query("SELECT type, last_status, last_error, attempts FROM events.dead_letters") == [
            (INFERENCE_REQUESTED, 400, "told", 1)
        ]


async def test_a_broker_that_is_not_there_is_waited_for_without_end(
    database: Database, tenants: tuple[UUID, UUID], make_relay: MakeRelay, closed_port: int
) -> None:
    begin(database, tenants[0])
    relay = await make_relay(f"http://127.0.0.1:{closed_port}/")
    with database.connect() as operator:
        operator.run("UPDATE events.outbox SET attempts = 50")
        assert await relay.relay_batch() == 2
        assert [row[1:] for row in outbox(operator)] == [(51, None, "ClientConnectorError", True)] * 2
        assert operator.value("SELECT count(*) FROM events.dead_letters") == 0


async def test_two_relays_side_by_side_post_each_event_once(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "BATCH", 3)
    with database.connect("app", tenants[0]) as app:
        for number in range(10):
            app.call("chat.begin_turn", p_message=f"Question {number}")
    relays = [await make_relay(sink.url) for _ in range(2)]
    moved = [1]
    while any(moved):
        moved = await asyncio.gather(*(relay.relay_batch() for relay in relays))
    assert len(sink.received) == len({headers["ce-id"] for headers, _ in sink.received}) == 10


async def test_a_notification_wakes_a_relay_that_waits(
    database: Database,
    tenants: tuple[UUID, UUID],
    sink: Sink,
    make_relay: MakeRelay,
    monkeypatch: pytest.MonkeyPatch,
    postgres: EmbeddedPostgres,
) -> None:
    assert postgres
    monkeypatch.setattr(relaying, "POLL_SECONDS", 3600)
    relay = await make_relay(sink.url)
    tasks = [asyncio.create_task(relay.run()), asyncio.create_task(listen(database.urls["relay"], relay.wake))]
    with database.connect() as operator:
        listening = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'relay' AND query = 'LISTEN outbox'"
        await until(lambda: operator.value(listening))
    begin(database, tenants[0])
    async with asyncio.timeout(10):
        await sink.arrived.wait()
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_relay_outlives_a_database_that_is_away(
    database: Database, closed_port: int, sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert database
    caplog.set_level(logging.WARNING, "platform")
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(relaying, "RECONNECT_SECONDS", 0.01)
    dsn = f"postgresql://relay:secret@127.0.0.1:{closed_port}/functions"
    pool = Pool(dsn, pool_size=2)
    await pool.open()
    async with ClientSession() as session:
        relay = Relay(pool, session, sink.url, {})
        tasks = [asyncio.create_task(relay.run()), asyncio.create_task(listen(dsn, relay.wake))]
        await until(lambda: [r.getMessage() for r in caplog.records].count("outbox_unreachable") >= 2)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    await pool.close()
    assert any(record.getMessage() == "listen_failed" for record in caplog.records)
