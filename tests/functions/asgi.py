"""A client that calls an ASGI application directly, streaming both ways: what is sent as header or body arrives as it is."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tests.support import ISSUED

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


LONGEST_SECONDS = 30
SHORTEST_CREDENTIAL = 20
"""What is shorter was made up by a test, and is a word that may stand elsewhere."""
API_KEY = re.compile(rb"eak_[0-9a-f]{32}_[0-9a-f]{32}_[\w-]{43}")


@dataclass(frozen=True)
class Reply:
    """A whole response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def code(self) -> str:
        """The problem's code, after a look at the form that every problem has, or every error of the OpenAI API."""
        document = self.json()
        if "error" in document:
            error = document["error"]
            assert self.headers["content-type"] == "application/json", self
            assert error.keys() >= {"message", "type", "param", "code"}, document
            assert error["message"], document
            problem: str = error["problem"]
            return problem
        assert self.headers["content-type"] == "application/problem+json", self
        assert document["status"] == self.status, document
        assert document["type"] == f"urn:enterprise-agents:problem:{document['code']}", document
        assert document["title"], document
        assert document["detail"], document
        code: str = document["code"]
        return code


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    name: str
    data: Any
    id: str | None


def events(body: bytes) -> list[Event]:
    """Read an event stream (HTML Living Standard, section 9.2), without its comments."""
    found = []
    for block in body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append(Event(fields["event"], json.loads(fields["data"]), fields.get("id")))
    return found


class Exchange:
    """A request under way."""

    def __init__(self, app: "ASGIApp", method: str, url: str, headers: Headers, body: Iterable[bytes]) -> None:
        self._app = app
        parts = urlsplit(url)
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        sent = {value.partition(" ")[2] for name, value in pairs if name.lower() == "authorization"}
        ISSUED.update(credential for credential in sent if len(credential) >= SHORTEST_CREDENTIAL)
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        parts_of_body = list(body)
        for number, part in enumerate(parts_of_body, start=1):
            more = number < len(parts_of_body)
            self._incoming.put_nowait({"type": "http.request", "body": part, "more_body": more})
        self._outgoing: asyncio.Queue[Message | None] = asyncio.Queue()
        self.status = 0
        self.headers: dict[str, str] = {}

    async def run(self) -> None:
        try:
            await self._app(self._scope, self._incoming.get, self._outgoing.put)
        finally:
            self._outgoing.put_nowait(None)

    def disconnect(self) -> None:
        """Close the connection, as a browser does whose tab is closed."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def head(self) -> int:
        """Wait for the head of the answer, of which no chunk was asked for yet, and return its status."""
        message = await self._outgoing.get()
        assert message is not None
        self._read_head(message)
        return self.status

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the parts of the body as they are sent."""
        while (message := await self._outgoing.get()) is not None:
            if message["type"] == "http.response.start":
                self._read_head(message)
            elif message.get("body"):
                yield message["body"]

    def _read_head(self, message: "Message") -> None:
        self.status = message["status"]
        self.headers = {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}


@asynccontextmanager
async def exchange(
    app: "ASGIApp", method: str, url: str, headers: Headers = (), body: Iterable[bytes] = (b"",)
) -> AsyncIterator[Exchange]:
    """Open a request, and end it, finished or not."""
    under_way = Exchange(app, method, url, headers, body)
    task = asyncio.create_task(under_way.run())
    try:
        yield under_way
    finally:
        if not task.done():
            under_way.disconnect()
            _, pending = await asyncio.wait({task}, timeout=5)
            for unfinished in pending:
                unfinished.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def call(
    app: "ASGIApp", method: str, url: str, headers: Headers = (), body: bytes | Iterable[bytes] = b""
) -> Reply:
    """Make a request and read the whole response; raises TimeoutError when it does not end."""
    parts = (body,) if isinstance(body, bytes) else body
    async with exchange(app, method, url, headers, parts) as under_way, asyncio.timeout(LONGEST_SECONDS):
        content = b"".join([chunk async for chunk in under_way.chunks()])
    ISSUED.update(key.decode() for key in API_KEY.findall(content))
    return Reply(under_way.status, under_way.headers, content)
