"""One Redis stream for each turn: inference writes it, any number of clients read it, at any time until it expires.

An entry's id is the SSE event's id, so `Last-Event-ID` is a position. It is the attempt that wrote the entry and the entry's
number in it: Redis takes ids in rising order only, so an older attempt that is still alive somewhere cannot write after
`turn.restarted`, and a reader sees when entries are missing.
"""

import asyncio
import json
import math
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import logs

COALESCE_SECONDS = 0.02
"""Tokens that arrive within this time travel together."""
MAX_ENTRIES = 20_000
RUNNING_TTL_SECONDS = 3600
POSITION = re.compile(r"\d{1,19}-\d{1,19}")
BEGINNING = "0-0"
TERMINAL = frozenset({"turn.completed", "turn.failed", "turn.stopped"})


@dataclass(frozen=True)
class StreamEvent:
    """What a client receives; `id` is None for what is not stored in the stream."""

    event: str
    data: dict[str, Any]
    id: str | None = None

    def encode(self) -> bytes:
        """Return the event in the event-stream format (HTML Living Standard, section 9.2)."""
        position = f"id: {self.id}\n" if self.id else ""
        return f"{position}event: {self.event}\ndata: {json.dumps(self.data, separators=(',', ':'))}\n\n".encode()


HEARTBEAT = b": heartbeat\n\n"


def key(turn_id: UUID | str) -> str:
    """Return the stream's Redis key."""
    return f"turn:{turn_id}"


class TurnWriter:
    """The one writer of a turn's stream in one attempt.

    Redis is for the readers' sake: when it fails, or loses the stream, the turn goes on, and readers get the answer from
    PostgreSQL.
    """

    def __init__(self, redis: Redis, turn_id: UUID | str, attempt: int, ttl_seconds: int) -> None:
        self._redis = redis
        self._key = key(turn_id)
        self._attempt = attempt
        self._ttl_seconds = ttl_seconds
        self._pending: list[str] = []
        self._flushed_at = -math.inf
        self._timer: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._entries = 0
        self.broken = False

    async def write(self, event: str, data: dict[str, Any]) -> None:
        """Append an event, after the tokens that wait; the stream expires some time after a terminal one."""
        async with self._lock:
            await self._flush()
            await self._add(event, data)

    async def token(self, text: str) -> None:
        """Append text, together with what arrives within COALESCE_SECONDS."""
        self._pending.append(text)
        wait = self._flushed_at + COALESCE_SECONDS - time.monotonic()
        if wait <= 0:
            # A turn that is stopped while it writes keeps what it has written, in order.
            await asyncio.shield(self._flush_after(0))
        elif self._timer is None or self._timer.done():
            self._timer = asyncio.create_task(self._flush_after(wait))

    async def _flush_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        async with self._lock:
            await self._flush()

    async def _flush(self) -> None:
        if self._pending:
            # Only tokens delay tokens: the first one follows `turn.started` at once.
            self._flushed_at = time.monotonic()
            text = "".join(self._pending)
            self._pending.clear()
            await self._add("turn.delta", {"text": text})

    async def _add(self, event: str, data: dict[str, Any]) -> None:
        if self.broken:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.xadd(
                    self._key,
                    {"event": event, "data": json.dumps(data)},
                    id=f"{self._attempt}-{self._entries}",
                    maxlen=MAX_ENTRIES,
                    approximate=True,
                    # A stream that has gone is not begun again: it would be without its beginning.
                    nomkstream=self._entries > 0,
                )
                if event != "turn.delta":
                    pipe.expire(self._key, self._ttl_seconds if event in TERMINAL else RUNNING_TTL_SECONDS)
                added, *_ = await pipe.execute()
        except (RedisError, OSError) as error:
            self.broken = True
            logs.warning("stream_unwritable", stream=self._key, error=type(error).__name__)
            return
        self._entries += 1
        if added is None:
            self.broken = True
            logs.warning("stream_lost", stream=self._key)


class EntriesLostError(Exception):
    """The stream no longer holds what followed a position."""


async def read(redis: Redis, turn_id: UUID | str, after: str, wait_seconds: float) -> AsyncIterator[StreamEvent | None]:
    """Yield the stream's events after a position until a terminal one; None when nothing came for `wait_seconds`.

    Raises EntriesLostError, and redis.exceptions.RedisError or OSError when Redis fails.
    """
    position = after
    if after != BEGINNING:
        seen: Any = await redis.xrange(key(turn_id), after, after)
        if any(fields["event"] in TERMINAL for _, fields in seen):
            return
    while True:
        found: Any = await redis.xread({key(turn_id): position}, count=500, block=max(1, int(wait_seconds * 1000)))
        if not found:
            yield None
            continue
        for id_, fields in found[0][1]:
            if not _adjoins(position, id_):
                raise EntriesLostError(id_)
            position = id_
            event = StreamEvent(fields["event"], json.loads(fields["data"]), position)
            yield event
            if event.event in TERMINAL:
                return


def _adjoins(position: str, following: str) -> bool:
    """Return whether nothing lies between two positions: the next entry of an attempt, or the first of a later one."""
    attempt, number = map(int, position.split("-"))
    later_attempt, later_number = map(int, following.split("-"))
    return later_number == (number + 1 if later_attempt == attempt else 0)


def endings(turn: dict[str, Any]) -> list[StreamEvent]:
    """Return the events that end a turn: its citations and usage, or its failure."""
    if turn["status"] == "failed":
        return [StreamEvent("turn.failed", {**turn["error"], "turn_id": turn["turn_id"], "usage": turn["usage"]})]
    members = ("turn_id", "status", "model", "tier", "usage", "charged_tokens", "budget")
    return [
        StreamEvent("turn.citations", {"citations": turn["citations"]}),
        StreamEvent(f"turn.{turn['status']}", {name: turn[name] for name in members}),
    ]
