"""A reader as a browser would be one: it shows the text, drops it when told to, and resumes where it was cut off."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aiohttp

from infra.local.sse import ServerSentEvent, read_events
from tests.stack.platform import PATIENCE_SECONDS, POLL_SECONDS, Platform

TERMINAL = ("turn.completed", "turn.failed", "turn.stopped")
LOGS = ("chat", "inference-standard", "sweeper", "relay", "broker")


@dataclass
class Transcript:
    """What a reader has of a turn, over any number of connections."""

    names: list[str] = field(default_factory=list)
    text: str = ""
    last_id: str = ""
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The data of the latest event of each name."""

    def take(self, event: ServerSentEvent) -> None:
        """Act upon an event."""
        self.names.append(event.event)
        self.last_id = event.id or self.last_id
        data = self.data[event.event] = json.loads(event.data)
        if event.event == "turn.delta":
            self.text += data["text"]
        elif event.event == "turn.restarted":
            self.text = ""

    @property
    def ended(self) -> bool:
        """Whether a terminal event has come."""
        return bool(self.names) and self.names[-1] in TERMINAL

    @property
    def turn(self) -> str:
        """The turn's id."""
        return str(self.data["turn.accepted"]["turn_id"])

    def kinds(self) -> list[str]:
        """Return the names in their order; deltas that follow each other count once."""
        return [name for i, name in enumerate(self.names) if name != "turn.delta" or self.names[i - 1] != name]


class Connection:
    """One response with a stream of events, taken into a transcript."""

    def __init__(self, platform: Platform, response: aiohttp.ClientResponse, transcript: Transcript) -> None:
        self._platform = platform
        self._events = aiter(read_events(response.content.iter_any()))
        self.transcript = transcript

    async def accepted(self) -> None:
        """Read the first event of a new turn."""
        event = await self._next()
        assert event is not None, "the stream is empty"
        assert event.event == "turn.accepted", event

    async def deltas(self, count: int) -> None:
        """Read on until `count` more pieces of text have come."""
        while count:
            event = await self._next()
            assert event is not None, f"the stream ended early: {self.transcript}"
            assert not self.transcript.ended, f"the answer was too short to be interrupted: {self.transcript}"
            count -= event.event == "turn.delta"

    async def one(self) -> None:
        """Read the next event, whatever it is."""
        assert await self._next() is not None, f"the stream ended early: {self.transcript}"

    async def end(self) -> Transcript:
        """Read to the end of the response, which must be the end of the turn."""
        while await self._next() is not None:
            pass
        assert self.transcript.ended, f"the stream ended before the turn: {self.transcript}"
        return self.transcript

    async def _next(self) -> ServerSentEvent | None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                event = await anext(self._events, None)
        except TimeoutError:
            raise AssertionError(f"no event for long after {self.transcript}\n{self._platform.tail(*LOGS)}") from None
        if event is not None:
            self.transcript.take(event)
        return event


def connections() -> aiohttp.ClientSession:
    """Return a session that keeps no connection: a test may have killed the process at its other end."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))


class User:
    """A user of a tenant at the platform's HTTP functions."""

    def __init__(self, platform: Platform, session: aiohttp.ClientSession, tenant: UUID, subject: str = "demo") -> None:
        self.platform = platform
        self.tenant = tenant
        self.session = self._session = session
        self.token = platform.stack.token_for(tenant, subject=subject)
        platform.issued.add(self.token)
        self._headers = {"Authorization": f"Bearer {self.token}"}

    @asynccontextmanager
    async def ask(self, message: str, *, key: str | None = None) -> AsyncIterator[Connection]:
        """Ask, and yield the connection when the turn is accepted."""
        headers = self._headers | ({} if key is None else {"Idempotency-Key": key})
        url = self.platform.stack.urls["chat"] + "/chat"
        async with self._session.post(url, json={"message": message}, headers=headers) as response:
            assert response.status == 200, await response.text()
            connection = Connection(self.platform, response, Transcript())
            await connection.accepted()
            yield connection

    @asynccontextmanager
    async def resume(self, turn: str, transcript: Transcript) -> AsyncIterator[Connection]:
        """Read on where the transcript ends, as soon as anybody takes the connection."""
        headers = self._headers | ({"Last-Event-ID": transcript.last_id} if transcript.last_id else {})
        url = f"{self.platform.stack.urls['chat']}/turns/{turn}/stream"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    response = await self._session.get(url, headers=headers)
                    break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(POLL_SECONDS)
        async with response:
            assert response.status == 200, await response.text()
            yield Connection(self.platform, response, transcript)

    async def answer(self, message: str, *, key: str | None = None) -> Transcript:
        """Ask and read to the end."""
        async with self.ask(message, key=key) as connection:
            return await connection.end()

    async def replay(self, turn: str) -> Transcript:
        """Read a turn's stream from its beginning to its end."""
        async with self.resume(turn, Transcript()) as connection:
            return await connection.end()

    async def request(self, method: str, url: str, **options: Any) -> tuple[int, str, dict[str, Any]]:
        """Return the status, media type and JSON of a response; `url` is a function's name and a path."""
        function, _, path = url.partition("/")
        options["headers"] = self._headers | options.get("headers", {})
        async with self._session.request(method, f"{self.platform.stack.urls[function]}/{path}", **options) as response:
            return response.status, response.content_type, json.loads(await response.read())

    async def turn(self, turn: str) -> dict[str, Any]:
        """Return how a turn stands."""
        status, _, body = await self.request("GET", f"chat/turns/{turn}")
        assert status == 200, body
        return body

    async def store(self, name: str, text: str) -> str:
        """Hand over a Markdown document and return its id."""
        status, _, document = await self.request(
            "POST",
            "ingestion/documents",
            params={"name": name},
            data=text.encode(),
            headers={"Content-Type": "text/markdown"},
        )
        assert status == 202, document
        return str(document["id"])

    async def upload(self, name: str, text: str) -> str:
        """Hand over a Markdown document and return its id when it is indexed."""
        document = await self.store(name, text)
        await self.platform.indexed(document)
        return document
