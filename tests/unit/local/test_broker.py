import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.local.broker import create_app
from infra.local.manifests import ManifestError, load
from infra.local.ports import HOST, free
from tests.unit.local.conftest import JOB_SINK, PING, SERVICE, TO_JOB_SINK, TRIGGER

EVENT = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/s",
    "ce-type": "work.wanted.v1",
    "content-type": "application/json",
}
Start = Callable[..., Awaitable[str]]


class Worker:
    """Keeps what is delivered; `statuses` are answered in order, then 204."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[str, dict[str, str], bytes]] = asyncio.Queue()
        self.statuses: list[int] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        await self.received.put((request.path, headers, await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker()
    app = web.Application()
    app.router.add_post("/{path:.*}", worker.handle)
    server = TestServer(app)
    await server.start_server()
    worker.url = str(server.make_url(""))
    yield worker
    await server.close()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
async def start(kustomization: Callable[..., Path], worker: Worker) -> AsyncIterator[Start]:
    """Serve a broker for the documents, as its process does, and return its URL."""
    running: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    async def serve(*documents: str, ping_seconds: float | None = None) -> str:
        port = free(["broker"])["broker"]
        url = f"http://{HOST}:{port}"
        app = create_app(
            load(kustomization(*documents)),
            {"worker": worker.url, "job-sink": worker.url.rstrip("/") + "/sinks"},
            own_url=url,
            ping_seconds=ping_seconds,
        )
        server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_level="warning"))
        task = asyncio.create_task(server.serve())
        running.append((server, task))
        await until_live(url)
        return url

    yield serve
    for server, task in running:
        server.should_exit = True
        await task


async def until_live(url: str) -> None:
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{url}/health/live"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)


async def counters(session: aiohttp.ClientSession, url: str, **wanted: int) -> dict[str, int]:
    """Return the Trigger's counters once they hold the wanted values."""
    async with asyncio.timeout(60):
        while True:
            async with session.get(f"{url}/status") as response:
                found: dict[str, int] = (await response.json())["triggers"]["work"]
            if all(found[name] == value for name, value in wanted.items()):
                return found
            await asyncio.sleep(0.01)


async def test_a_matching_event_is_accepted_and_delivered(
    start: Start, session: aiohttp.ClientSession, worker: Worker
) -> None:
    url = await start(SERVICE, TRIGGER)
    async with session.post(url, headers=EVENT, data=b'{"a": 1}') as response:
        assert response.status == 202
    path, headers, body = await worker.received.get()
    assert (path, body) == ("/", b'{"a": 1}')
    assert {name: headers[name] for name in EVENT} == EVENT


async def test_an_event_for_a_job_sink_goes_to_what_runs_them(
    start: Start, session: aiohttp.ClientSession, worker: Worker
) -> None:
    url = await start(JOB_SINK, TO_JOB_SINK)
    async with session.post(url, headers=EVENT, data=b'{"a": 1}') as response:
        assert response.status == 202
    path, headers, body = await worker.received.get()
    assert (path, headers["ce-id"], body) == ("/sinks/long-work", "1", b'{"a": 1}')


async def test_structured_mode_is_delivered_in_binary_mode(
    start: Start, session: aiohttp.ClientSession, worker: Worker
) -> None:
    url = await start(SERVICE, TRIGGER)
    event = {"specversion": "1.0", "id": "9", "source": "/s", "type": "work.wanted.v1", "data": [1]}
    headers = {"content-type": "application/cloudevents+json"}
    async with session.post(f"{url}/ns/default", json=event, headers=headers) as response:
        assert response.status == 202
    _, delivered, body = await worker.received.get()
    assert (delivered["ce-id"], delivered["content-type"], body) == ("9", "application/json", b"[1]")


async def test_an_event_that_no_trigger_wants_is_accepted_and_goes_nowhere(
    start: Start, session: aiohttp.ClientSession, worker: Worker
) -> None:
    url = await start(SERVICE, TRIGGER)
    async with session.post(url, headers={**EVENT, "ce-type": "other"}, data=b"{}") as response:
        assert response.status == 202
    async with session.post(url, headers={**EVENT, "ce-id": "2"}, data=b"{}"):
        pass
    _, headers, _ = await worker.received.get()
    assert headers["ce-id"] == "2"
    assert worker.received.empty()


async def test_refused_attempts_are_retried_and_counted(
    start: Start, session: aiohttp.ClientSession, worker: Worker
) -> None:
    worker.statuses = [409, 503]
    url = await start(SERVICE, TRIGGER)
    async with session.post(url, headers=EVENT, data=b"{}"):
        pass
    found = await counters(session, url, in_flight=0, delivered=1)
    assert (found["retried"], found["dropped"]) == (2, 0)


async def test_poison_is_counted_as_dropped(start: Start, session: aiohttp.ClientSession, worker: Worker) -> None:
    worker.statuses = [422]
    url = await start(SERVICE, TRIGGER)
    async with session.post(url, headers=EVENT, data=b"{}"):
        pass
    assert (await counters(session, url, in_flight=0, dropped=1))["retried"] == 0


@pytest.mark.parametrize(("headers", "body"), [({}, b"x"), ({"content-type": "application/cloudevents+json"}, b"{")])
async def test_what_is_no_event_is_a_problem(
    start: Start, session: aiohttp.ClientSession, headers: dict[str, str], body: bytes
) -> None:
    url = await start(SERVICE, TRIGGER)
    async with session.post(url, headers=headers, data=body) as response:
        assert (response.status, response.content_type) == (400, "application/problem+json")
        assert (await response.json(content_type=None))["code"] == "invalid-event"


async def test_an_event_that_is_too_large_is_a_problem(start: Start, session: aiohttp.ClientSession) -> None:
    url = await start(SERVICE, TRIGGER)
    async with session.post(url, headers=EVENT, data=io.BytesIO(b"x" * (16 * 1024 * 1024 + 1))) as response:
        assert response.status == 413


async def test_ping_sources_fire_at_the_given_interval(start: Start, worker: Worker) -> None:
    await start(SERVICE, PING, ping_seconds=0.02)
    (path, headers, body), (_, second, _) = await worker.received.get(), await worker.received.get()
    assert (path, body, headers["ce-type"]) == ("/tick", b'{"a": 1}', "dev.knative.sources.ping")
    assert headers["ce-source"] == "/apis/v1/namespaces/here/pingsources/tick"
    assert headers["ce-id"] != second["ce-id"]


async def test_a_subscriber_without_a_url_stops_the_start(kustomization: Callable[..., Path]) -> None:
    app = create_app(load(kustomization(SERVICE, TRIGGER)), {}, own_url="http://here/")
    with pytest.raises(ManifestError, match="worker receives events and has no URL"):
        async with app.router.lifespan_context(app):
            pass
