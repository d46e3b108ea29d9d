"""A lean client of token streams: it takes the tokens' numbers and send times out of whatever carries them.

It parses no JSON and no events on the way, because it shares the cores with what is measured.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(rb"(\d+):(\d+);")
_TURN = re.compile(rb"x-turn-id: ([0-9a-f-]{36})", re.IGNORECASE)
_LAST = b"0\r\n\r\n"
_KEPT = 128
"""Bytes kept from one read to the next, since a token may be cut in two."""


@dataclass
class Reception:
    """What came of one stream. Times are seconds of CLOCK_MONOTONIC."""

    asked: float
    first: float = 0.0
    """When the first token came."""
    count: int = 0
    latencies: list[tuple[float, float]] = field(default_factory=list)
    """Of each token the arrival, and the seconds since it was sent."""
    restarts: int = 0
    """How often the answer was begun again."""
    failure: str = ""
    turn_id: str = ""
    completed: bool = False


class _Reading(asyncio.Protocol):
    def __init__(self, request: bytes, ended: asyncio.Future[None], ends_with: bytes) -> None:
        self._request = request
        self._ended = ended
        self._ends_with = ends_with
        self._rest = b""
        self.reception = Reception(time.monotonic())
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now, reception = time.monotonic(), self.reception
        text = self._rest + data
        if not reception.turn_id:
            if not text.startswith(b"HTTP/1.1 200"[: len(text)]):
                reception.failure = text[:200].decode("latin-1")
            if found := _TURN.search(text):
                reception.turn_id = found[1].decode()
        end = 0
        for match in _TOKEN.finditer(text):
            end = match.end()
            if match[1] == b"0" and reception.count:
                # Told by turn.restarted: another process began again.
                reception.restarts += 1
                reception.count = 0
            if int(match[1]) != reception.count:
                reception.failure = reception.failure or f"token {int(match[1])} instead of {reception.count}"
            if not reception.count:
                reception.first = now
            reception.count += 1
            reception.latencies.append((now, now - int(match[2]) / 1e6))
        if self._ends_with in text:
            reception.completed = True
        self._rest = text[max(end, len(text) - _KEPT) :]
        if text.endswith(_LAST):
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self.reception.failure = self.reception.failure or type(exc).__name__
        if not self._ended.done():
            self._ended.set_result(None)


async def read(url: str, body: bytes, headers: Mapping[str, str], ends_with: bytes) -> Reception:
    """POST, read the stream to its end, and return what came; `ends_with` is what a whole stream has in it."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"host: {parts.netloc}", f"content-length: {len(body)}"]
    # A refusal is a whole response, whose end is the connection's.
    lines.append("connection: close")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    request = "\r\n".join([*lines, "\r\n"]).encode() + body
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    host, port = parts.hostname or "", parts.port or 0
    _, reading = await loop.create_connection(lambda: _Reading(request, ended, ends_with), host, port)
    await ended
    return reading.reception
