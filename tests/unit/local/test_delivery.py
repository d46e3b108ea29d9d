import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.local.cloudevent import Event
from infra.local.delivery import Subscription, backoff, parse_retry_after
from infra.local.manifests import Delivery
from infra.local.ports import free

EVENT = Event(
    {"specversion": "1.0", "id": "e1", "source": "/s", "type": "t", "subject": "turn-1"}, "application/json", b"{}"
)

Serve = Callable[["Subscriber"], Awaitable[str]]


class Subscriber:
    """Answers with the given statuses in order, and with the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.requests: list[dict[str, str]] = []
        self.retry_after: str | None = None
        self.gate: asyncio.Event | None = None
        self.busy = asyncio.Event()
        self.now = self.most = 0

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append({name.lower(): value for name, value in request.headers.items()})
        self.now += 1
        self.most = max(self.most, self.now)
        if len(self.requests) > 1:
            self.busy.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
            status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            headers = {"Retry-After": self.retry_after} if self.retry_after else None
            return web.Response(status=status, text="because", headers=headers)
        finally:
            self.now -= 1


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as opened:
        yield opened


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[TestServer] = []

    async def start(subscriber: Subscriber) -> str:
        app = web.Application()
        app.router.add_post("/", subscriber.handle)
        server = TestServer(app)
        servers.append(server)
        await server.start_server()
        return str(server.make_url("/"))

    yield start
    for server in servers:
        await server.close()


def subscription(
    url: str,
    session: aiohttp.ClientSession,
    *,
    retry: int = 3,
    limit: asyncio.Semaphore | None = None,
    timeout: float = 5.0,
    dead_letter: Subscription | None = None,
) -> Subscription:
    delivery = Delivery(retry=retry, backoff=0.001)
    return Subscription(
        "trigger", url, delivery, session=session, limit=limit, timeout=timeout, dead_letter=dead_letter
    )


async def test_a_taken_event_is_delivered_once_in_binary_mode(session: aiohttp.ClientSession, serve: Serve) -> None:
    subscriber = Subscriber(204)
    sub = subscription(await serve(subscriber), session)
    assert await sub.deliver(EVENT)
    assert len(subscriber.requests) == 1
    assert subscriber.requests[0]["ce-id"] == "e1"
    assert sub.counters.as_dict() == {"in_flight": 0, "delivered": 1, "retried": 0, "dropped": 0}


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503])
async def test_what_may_pass_is_tried_again(session: aiohttp.ClientSession, serve: Serve, status: int) -> None:
    subscriber = Subscriber(status, status, 200)
    sub = subscription(await serve(subscriber), session)
    assert await sub.deliver(EVENT)
    assert sub.counters.retried == 2


@pytest.mark.parametrize("status", [301, 400, 401, 403, 410, 413, 415, 422])
async def test_poison_is_dropped_at_once_with_a_log_line(
    session: aiohttp.ClientSession, serve: Serve, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    subscriber = Subscriber(status)
    sub = subscription(await serve(subscriber), session)
    assert not await sub.deliver(EVENT)
    assert len(subscriber.requests) == 1
    assert sub.counters.dropped == 1
    line = json.loads(capsys.readouterr().err)
    assert line["message"] == "dropped"
    assert (line["event_id"], line["event_type"], line["trigger"]) == ("e1", "t", "trigger")
    assert (line["status"], line["detail"], line["subject"]) == (status, "because", "turn-1")


async def test_attempts_end_after_the_retries(session: aiohttp.ClientSession, serve: Serve) -> None:
    subscriber = Subscriber(503)
    sub = subscription(await serve(subscriber), session, retry=3)
    assert not await sub.deliver(EVENT)
    assert len(subscriber.requests) == 4
    assert (sub.counters.retried, sub.counters.dropped) == (3, 1)


async def test_an_unreachable_subscriber_is_tried_again_and_then_dropped(session: aiohttp.ClientSession) -> None:
    sub = subscription(f"http://127.0.0.1:{free(['nobody'])['nobody']}/", session, retry=2)
    assert not await sub.deliver(EVENT)
    assert (sub.counters.retried, sub.counters.dropped) == (2, 1)


async def test_an_attempt_that_takes_too_long_counts_as_failed(session: aiohttp.ClientSession, serve: Serve) -> None:
    subscriber = Subscriber(200)
    subscriber.gate = asyncio.Event()
    sub = subscription(await serve(subscriber), session, retry=1, timeout=0.05)
    assert not await sub.deliver(EVENT)
    assert (sub.counters.retried, sub.counters.dropped) == (1, 1)
    subscriber.gate.set()


async def test_a_dropped_event_goes_to_the_dead_letter_sink_and_says_why(
    session: aiohttp.ClientSession, serve: Serve
) -> None:
    letters = Subscriber(202)
    dead_letter = subscription(await serve(letters), session)
    url = await serve(Subscriber(422))
    assert not await subscription(url, session, dead_letter=dead_letter).deliver(EVENT)
    assert letters.requests[0]["ce-id"] == "e1"
    assert letters.requests[0]["ce-knativeerrorcode"] == "422"
    assert letters.requests[0]["ce-knativeerrordest"] == url
    assert b64decode(letters.requests[0]["ce-knativeerrordata"]) == b"because"


async def test_a_services_concurrency_is_never_exceeded(session: aiohttp.ClientSession, serve: Serve) -> None:
    subscriber = Subscriber(200)
    subscriber.gate = asyncio.Event()
    limit = asyncio.Semaphore(2)
    url = await serve(subscriber)
    subs = [subscription(url, session, limit=limit) for _ in range(2)]
    deliveries = [asyncio.create_task(subs[n % 2].deliver(EVENT)) for n in range(8)]
    await subscriber.busy.wait()
    subscriber.gate.set()
    assert all(await asyncio.gather(*deliveries))
    assert subscriber.most == 2


async def test_the_subscribers_wish_for_patience_is_granted(
    session: aiohttp.ClientSession, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    subscriber = Subscriber(429, 200)
    subscriber.retry_after = "0.2"
    assert await subscription(await serve(subscriber), session).deliver(EVENT)
    assert json.loads(capsys.readouterr().err)["delay_seconds"] == pytest.approx(0.2)


def test_backoff_doubles_or_grows_by_steps() -> None:
    exponential = [backoff(Delivery(backoff=0.5), n) for n in (1, 2, 3, 4)]
    linear = [backoff(Delivery(backoff=0.5, exponential=False), n) for n in (1, 2, 3, 4)]
    assert exponential == [0.5, 1.0, 2.0, 4.0]
    assert linear == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0.0),
        ("7", 7.0),
        ("-1", 0.0),
        ("86400", 60.0),
        ("soon", 0.0),
        ("Mon, 23 Nov 2026 14:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 13:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float) -> None:
    now = datetime(2026, 11, 23, 14, 0, 0, tzinfo=UTC)
    assert parse_retry_after(header, lambda: now) == seconds
