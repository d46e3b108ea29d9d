"""A model server that misbehaves on command, on the test's own event loop; raw HTTP, so that it can break that too."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.support import WIDTH

HEAD = "HTTP/1.1 {status} Told\r\nContent-Type: {kind}\r\nConnection: close\r\nx-should-retry: {retry}\r\n"


class Reply:
    """The connection, from the side of whoever answers."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def whole(self, status: int, body: bytes, kind: str = "application/json", *, retry: bool = False) -> None:
        """Answer at once."""
        head = HEAD.format(status=status, kind=kind, retry=str(retry).lower())
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await self._writer.drain()

    async def begin_stream(self) -> None:
        """Begin a chunked event stream."""
        head = HEAD.format(status=200, kind="text/event-stream", retry="false")
        self._writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        await self._writer.drain()

    async def send(self, text: str | bytes) -> None:
        """Send a part of the stream."""
        data = text.encode() if isinstance(text, str) else text
        self._writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self._writer.drain()

    async def tokens(self, *tokens: str) -> None:
        """Send an event for each token."""
        for token in tokens:
            await self.send(chunk({"choices": [{"index": 0, "delta": {"content": token}, "finish_reason": None}]}))

    async def end_stream(self) -> None:
        """End the stream as HTTP wants it."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def misframe(self) -> None:
        """Send what is no chunk."""
        self._writer.write(b"ZZ\r\n")
        await self._writer.drain()

    def cut(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()


Answer = Callable[[Reply, dict[str, Any]], Awaitable[None]]


def chunk(document: object) -> str:
    """Return an event of the stream."""
    return f"data: {json.dumps(document)}\n\n"


FINISHED = chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
DONE = "data: [DONE]\n\n"


def usage(prompt: object = 10, completion: object = 5) -> str:
    """Return the event that reports the usage."""
    return chunk({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


def status(code: int, body: bytes = b'{"error": {"message": "told to"}}') -> Answer:
    """Answer with a status."""

    async def answer(reply: Reply, _: dict[str, Any]) -> None:
        await reply.whole(code, body)

    return answer


def stream(*parts: str | bytes, cut: bool = False, gate: asyncio.Event | None = None) -> Answer:
    """Stream the parts, wait for the gate if there is one, and end the stream or cut it."""

    async def answer(reply: Reply, _: dict[str, Any]) -> None:
        await reply.begin_stream()
        for part in parts:
            await reply.send(part)
        if gate is not None:
            await gate.wait()
        if cut:
            reply.cut()
        else:
            await reply.end_stream()

    return answer


async def misframed(reply: Reply, _: dict[str, Any]) -> None:
    """Begin a stream that breaks HTTP's framing."""
    await reply.begin_stream()
    await reply.misframe()


def text(*tokens: str) -> tuple[str, ...]:
    """Return the events of a whole answer."""
    deltas = [chunk({"choices": [{"index": 0, "delta": {"content": token}}]}) for token in tokens]
    return (*deltas, FINISHED, usage(), DONE)


async def silence(_reply: Reply, _request: dict[str, Any]) -> None:
    """Accept the request and say nothing."""
    await asyncio.Event().wait()


async def hang_up(reply: Reply, _: dict[str, Any]) -> None:
    """Close the connection without an answer."""
    reply.cut()


def vectors(*components: object, count: int | None = None) -> Answer:
    """Answer with this vector for every text, or for `count` of them."""

    async def answer(reply: Reply, request: dict[str, Any]) -> None:
        wanted = len(request["input"]) if count is None else count
        data = [{"index": index, "embedding": list(components)} for index in range(wanted)]
        await reply.whole(200, json.dumps({"data": data}).encode())

    return answer


@dataclass
class Upstream:
    """What the server does with the next requests, and what it was sent."""

    url: str
    chat: Answer = field(default_factory=lambda: stream(*text("Fine.")))
    embeddings: Answer = field(default_factory=lambda: vectors(1.0, *[0.0] * (WIDTH - 1)))
    rerank: Answer = field(default_factory=lambda: status(404))
    requests: list[dict[str, Any]] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def then(self, answers: Sequence[Answer]) -> None:
        """Answer the chat requests one after the other like this; the last answer stays."""
        rest: Iterable[Answer] = iter(answers)
        last = answers[-1]

        async def answer(reply: Reply, request: dict[str, Any]) -> None:
            await next(iter(rest), last)(reply, request)

        self.chat = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        request = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.requests.append({"path": lines[0].split(" ")[1], "headers": headers, **request})
        answers = {"/chat/completions": self.chat, "/rerank": self.rerank}
        answer = next((answer for path, answer in answers.items() if path in lines[0]), self.embeddings)
        await answer(Reply(writer), request)

    async def close(self) -> None:
        """End the connections that are still answered."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def misbehaving() -> AsyncIterator[Upstream]:
    """Start the server on a free port."""
    upstream = Upstream("")
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()
        await upstream.close()
