"""The chat function behind its real server, and a WebSocket client of another library than the server's."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import uvicorn

from infra.local import ports
from shared.serving import configuration
from tests.functions.asgi import Event
from tests.functions.platform import Platform
from tests.support import ISSUED

if TYPE_CHECKING:
    from shared.service import Service

PATIENCE_SECONDS = 30
TERMINAL = {"turn.completed", "turn.failed", "turn.stopped"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
"""What makes a request a handshake (RFC 6455, section 4.1)."""


class Server(uvicorn.Server):
    """A server that leaves the signals to the test runner."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.config.port}"


@asynccontextmanager
async def serving(service: "Service", **changes: Any) -> AsyncIterator[Server]:
    """Serve a function as in production, on a free port, with changes to uvicorn's settings."""
    config = configuration(service, "127.0.0.1", ports.free(["chat"])["chat"])
    for name, value in changes.items():
        setattr(config, name, value)
    server = Server(config)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not server.started:
            assert not task.done(), "the server did not start"
            await asyncio.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = True
        async with asyncio.timeout(PATIENCE_SECONDS):
            await task


@asynccontextmanager
async def carried(platform: Platform) -> AsyncIterator[None]:
    """Carry every event to its consumer meanwhile."""
    over = asyncio.Event()

    async def carry() -> None:
        async with asyncio.TaskGroup() as deliveries:
            while not over.is_set():
                deliveries.create_task(platform.deliver())
                await asyncio.sleep(0.02)

    task = asyncio.create_task(carry())
    try:
        yield
        over.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await task
    finally:
        # Where a test has failed, a model may wait for what does not come.
        task.cancel()
        await asyncio.wait({task})


def event_of(frame: Mapping[str, Any]) -> Event:
    """Return the event that a frame tells."""
    return Event(frame["event"], frame["data"], frame["id"])


class Talk:
    """One WebSocket from the client's side."""

    def __init__(self, session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> None:
        self._session = session
        self._url = url
        self._headers = headers
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def __aenter__(self) -> Self:
        self._socket = await self._session.ws_connect(self._url, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    @property
    def socket(self) -> aiohttp.ClientWebSocketResponse:
        assert self._socket is not None
        return self._socket

    def cut(self) -> None:
        """Break the connection without a word."""
        transport = self.socket.get_extra_info("socket") and self.socket._writer.transport  # noqa: SLF001
        assert transport is not None
        transport.abort()

    async def say(self, kind: str, **members: object) -> None:
        """Send a frame."""
        if kind == "authenticate":
            ISSUED.add(str(members["token"]))
        await self.socket.send_str(json.dumps({"type": kind, **members}))

    async def hear(self) -> dict[str, Any]:
        """Return the next frame that is no heartbeat."""
        while True:
            message = await self.socket.receive(timeout=PATIENCE_SECONDS)
            assert message.type is aiohttp.WSMsgType.TEXT, (message, self.socket.close_code)
            frame: dict[str, Any] = json.loads(message.data)
            if frame["type"] != "heartbeat":
                return frame

    async def hear_all(self, enough: Callable[[dict[str, Any]], object]) -> list[dict[str, Any]]:
        """Return the frames until one of them is enough, that one included."""
        heard = [await self.hear()]
        while not enough(heard[-1]):
            heard.append(await self.hear())
        return heard

    async def words(self, count: int) -> list[dict[str, Any]]:
        """Return the frames until the turns' texts have grown by so many words: pieces may travel together."""
        heard: list[dict[str, Any]] = []
        while count:
            heard.append(await self.hear())
            if heard[-1].get("event") == "turn.delta":
                count -= len(heard[-1]["data"]["text"].split())
        return heard

    async def turn(self, ref: str | None = None) -> list[Event]:
        """Return the events of a turn to its end; nothing else may be told meanwhile."""
        heard = await self.hear_all(lambda frame: frame.get("event") in TERMINAL)
        assert {(frame["type"], frame.get("ref")) for frame in heard} == {("event", ref)}
        return [event_of(frame) for frame in heard]

    async def opened(self) -> dict[str, Any]:
        """Return the frame that says that the socket is authenticated."""
        frame = await self.hear()
        assert frame["type"] == "authenticated", frame
        return frame

    async def refusal(self, ref: str | None = None) -> dict[str, Any]:
        """Return the problem that the next frame tells, after a look at the form that every problem has."""
        frame = await self.hear()
        assert (frame["type"], frame.get("ref")) == ("problem", ref), frame
        problem: dict[str, Any] = frame["problem"]
        assert problem["type"] == f"urn:enterprise-agents:problem:{problem['code']}"
        assert problem["status"]
        assert problem["title"]
        assert problem["detail"]
        return problem

    async def closed(self) -> int:
        """Return the code with which the server closes, without another word before."""
        message = await self.socket.receive(timeout=PATIENCE_SECONDS)
        assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}, message
        assert self.socket.close_code is not None
        return self.socket.close_code
