"""The client of the gateway benchmark, in a process of its own: closed-loop clients over keep-alive connections.

Started as `python -m tests.benchmarks.load`; it reads one block (JSON, see `Block`) a line from its standard input and writes
one result (JSON, see `Result`) a line. It is raw asyncio, so that it takes little of the machine that it shares with what it
measures. The answers are checked after the block, not while it runs.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

_FIRST_TEXT = re.compile(rb'"content": ?"[^"]')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_END_OF_HEAD = b"\r\n\r\n"
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_PATIENCE_SECONDS = 60.0
_SHOWN = 300
_OK = b"HTTP/1.1 200"


@dataclass(frozen=True, slots=True)
class Block:
    """One measurement: so many clients ask again as soon as they are answered, from the end of the ramp for `seconds`.

    The clients begin one after the other over `ramp_seconds`, so that they do not march in step.
    """

    url: str
    key: str
    body: dict[str, Any]
    clients: int
    seconds: float
    ramp_seconds: float
    text: str
    completion_tokens: int


@dataclass(slots=True)
class Result:
    """What the clients saw: of every request of the block, and, of those that ended after the ramp, their times in seconds."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    """The first few; `failed` is their number."""
    failed: int = 0
    a_second: float = 0.0
    latencies: list[float] = field(default_factory=list)
    first_texts: list[float] = field(default_factory=list)
    """From the request to the first text; of streams only."""


@dataclass(slots=True)
class _Answer:
    began: float
    first_text: float
    ended: float
    raw: bytes


class Client(asyncio.Protocol):
    """One connection that asks again and again."""

    def __init__(self, request: bytes, until: float, answers: list[_Answer], known: dict[bytes, bytes]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request, self._until, self._answers, self._known = request, until, answers, known
        self._received = bytearray()
        self._began = self._first_text = 0.0
        self._end = -1
        self._chunked = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def connection_lost(self, _: Exception | None) -> None:
        """Count an answer that did not come whole."""
        if not self.done.done():
            self._take(time.perf_counter())
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Note the first text and the end of an answer."""
        now = time.perf_counter()
        self._received += data
        if self._end < 0 and not self._chunked and (head := self._received.find(_END_OF_HEAD)) >= 0:
            length = _LENGTH.search(self._received, 0, head)
            self._chunked = _CHUNKED.search(self._received, 0, head) is not None
            self._end = head + len(_END_OF_HEAD) + int(length[1]) if length else -1
        if not self._first_text and _FIRST_TEXT.search(self._received):
            self._first_text = now
        if self._received.endswith(_LAST_CHUNK) if self._chunked else 0 < self._end <= len(self._received):
            self._take(now)
            self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        self._received, self._end, self._chunked, self._first_text = bytearray(), -1, False, 0.0
        self._began = time.perf_counter()
        if self._began >= self._until:
            self.done.set_result(None)
            self._transport.close()
        else:
            self._transport.write(self._request)

    def _take(self, now: float) -> None:
        raw = bytes(self._received)
        # Fast servers give the same bytes a hundred thousand times.
        self._answers.append(_Answer(self._began, self._first_text, now, self._known.setdefault(raw, raw)))


async def run(block: Block) -> Result:
    """Run a block to the end of its last answer."""
    where = urlsplit(block.url)
    host, port = where.hostname, where.port
    if host is None or port is None:
        raise ValueError(f"no host and port: {block.url}")
    payload = json.dumps(block.body).encode()
    head = (
        f"POST {where.path.rstrip('/')}/v1/chat/completions HTTP/1.1",
        f"Host: {where.netloc}",
        f"Authorization: Bearer {block.key}",
        "Content-Type: application/json",
        f"Content-Length: {len(payload)}",
    )
    request = "\r\n".join(head).encode() + _END_OF_HEAD + payload
    answers: list[_Answer] = []
    known: dict[bytes, bytes] = {}
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    measured_from, until = began + block.ramp_seconds, began + block.ramp_seconds + block.seconds
    clients: list[Client] = []
    for number in range(block.clients):
        await asyncio.sleep(began + block.ramp_seconds * number / block.clients - time.perf_counter())
        _, client = await loop.create_connection(lambda: Client(request, until, answers, known), host, port)
        clients.append(client)
    await asyncio.wait(
        [client.done for client in clients], timeout=block.ramp_seconds + block.seconds + _PATIENCE_SECONDS
    )
    result = Result(requests=len(answers), failed=sum(not client.done.done() for client in clients))
    if result.failed:
        result.failures.append(f"{result.failed} clients got no whole answer")
    complaints = {raw: check(raw, block) for raw in known}
    for each in answers:
        if complaint := complaints[each.raw]:
            result.failed += 1
            result.failures = [*result.failures, complaint][:3]
        elif each.ended >= measured_from:
            result.latencies.append(each.ended - each.began)
            if block.body.get("stream"):
                result.first_texts.append(each.first_text - each.began)
    result.a_second = sum(measured_from <= each.ended < until for each in answers) / block.seconds
    return result


def check(raw: bytes, block: Block) -> str:
    """Return what is wrong with an answer: nothing, or a line for people."""
    head, _, body = raw.partition(_END_OF_HEAD)
    if not head.startswith(_OK):
        return f"not a 200: {raw[:_SHOWN]!r}"
    try:
        body = _unframed(body) if _CHUNKED.search(head) else body
        text, tokens = _streamed(body) if block.body.get("stream") else _whole(body)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return f"not understood ({error!r}): {raw[:_SHOWN]!r}"
    if text != block.text:
        return f"another text: {text[:_SHOWN]!r}"
    return "" if tokens == block.completion_tokens else f"usage: {tokens} tokens"


def _unframed(body: bytes) -> bytes:
    """Return the data of a chunked body."""
    parts: list[bytes] = []
    at = 0
    while True:
        line = body.index(b"\r\n", at)
        size = int(body[at:line].partition(b";")[0], 16)
        if not size:
            return b"".join(parts)
        parts.append(body[line + 2 : line + 2 + size])
        at = line + 2 + size + 2


def _whole(body: bytes) -> tuple[str, int]:
    completion = json.loads(body)
    return completion["choices"][0]["message"]["content"], completion["usage"]["completion_tokens"]


def _streamed(body: bytes) -> tuple[str, int | None]:
    """Return the text and the reported completion tokens; raises ValueError for a stream without its end."""
    text: list[str] = []
    tokens = None
    ended = False
    for line in body.splitlines():
        data = line.removeprefix(b"data: ")
        if data == b"[DONE]":
            ended = True
        elif data is not line and data:
            chunk = json.loads(data)
            text += [choice["delta"].get("content") or "" for choice in chunk["choices"]]
            tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
    if not ended:
        raise ValueError("no [DONE]")
    return "".join(text), tokens


def main() -> None:
    """Run the blocks that are asked for."""
    for line in sys.stdin:
        result = asyncio.run(run(Block(**json.loads(line))))
        sys.stdout.write(json.dumps(asdict(result)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
