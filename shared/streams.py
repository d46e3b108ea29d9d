"""One Redis stream for each turn: inference writes it, any number of clients read it, at any time until it expires.

An entry's id is the SSE event's id, so `Last-Event-ID` is a position. It is the attempt that wrote the entry and the entry's
number in it: Redis takes ids in rising order only, so an older attempt that is still alive somewhere cannot write after
`turn.restarted`, and a reader sees when entries are missing. Reading is `shared.stream_reader`'s.
"""

import asyncio
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import logs

COALESCE_SECONDS = 0.02
"""Tokens that arrive within this time travel together, those of all turns of the process."""
PATIENCE_SECONDS = 5.0
"""A Redis that takes longer counts as one that has failed, whatever its client would still try."""
MAX_ENTRIES = 20_000
RUNNING_TTL_SECONDS = 3600
POSITION = re.compile(r"\d{1,19}-\d{1,19}")
BEGINNING = "0-0"
TERMINAL = frozenset({"turn.completed", "turn.failed", "turn.stopped"})
HEARTBEAT = b": heartbeat\n\n"


@dataclass(frozen=True)
class StreamEvent:
    """What a client receives; `id` is None for what is not stored in the stream."""

    event: str
    data: dict[str, Any]
    id: str | None = None

    def encode(self) -> bytes:
        """Return the event in the event-stream format (HTML Living Standard, section 9.2)."""
        return encoded(self.id, self.event, json.dumps(self.data, separators=(",", ":")))


def encoded(id_: str | None, event: str, data: str) -> bytes:
    """Return an event, whose data is JSON without a line break, in the event-stream format."""
    position = f"id: {id_}\n" if id_ else ""
    return f"{position}event: {event}\ndata: {data}\n\n".encode()


def key(turn_id: UUID | str) -> str:
    """Return the stream's Redis key."""
    return f"turn:{turn_id}"


ADD = f"""
local refused = {{}}
for i, key in ipairs(KEYS) do
  local id, ttl, event, data = unpack(ARGV, 4 * i - 3, 4 * i)
  local added
  if string.sub(id, -2) == '-0' then
    added = redis.pcall('XADD', key, 'MAXLEN', '~', {MAX_ENTRIES}, id, 'event', event, 'data', data)
  else
    added = redis.pcall('XADD', key, 'NOMKSTREAM', 'MAXLEN', '~', {MAX_ENTRIES}, id, 'event', event, 'data', data)
  end
  if not added then
    refused[#refused + 1] = {{i, ''}}
  elseif type(added) == 'table' and added.err then
    refused[#refused + 1] = {{i, added.err}}
  elseif ttl ~= '' then
    redis.pcall('EXPIRE', key, ttl)
  end
end
return refused
"""
"""KEYS the stream of each entry; ARGV id, seconds until the stream expires or '', event and data of each. Returns the entries
that were refused, as {number from 1, error}; the error is '' for a stream that has gone. Such a stream is not begun again: it
would be without its beginning. One reply for all costs the client a quarter of what a pipeline of XADDs does."""


class Urgency(IntEnum):
    """When something is sent."""

    LATER = 0
    """COALESCE_SECONDS from now, or with what is sent before that."""
    SOON = 1
    """At once, if nothing was sent in the last COALESCE_SECONDS; else when they are over."""
    NOW = 2


class TurnWriter:
    """The one writer of a turn's stream in one attempt.

    Redis is for the readers' sake: when it fails, or loses the stream, the turn goes on, and readers get the answer from
    PostgreSQL.
    """

    def __init__(
        self, redis: Redis, turn_id: UUID | str, attempt: int, ttl_seconds: int, *, eager: bool = True
    ) -> None:
        """Write at once what a reader waits for, or, where readers come a moment later, what comes in COALESCE_SECONDS."""
        self._batch = _batch(redis)
        self._redis = redis
        self._key = key(turn_id)
        self._attempt = attempt
        self._ttl_seconds = ttl_seconds
        self._events: list[tuple[str, str]] = []
        self._text: list[str] = []
        self._speaks = False
        self._entries = 0
        self._urgent = Urgency.NOW if eager else Urgency.LATER
        self.broken = False

    def put(self, event: str, data: dict[str, Any]) -> asyncio.Future[None]:
        """Append an event, after the tokens that wait; the stream expires some time after a terminal one.

        It is sent at once whether or not the caller waits for what is returned, which is done when it was sent.
        """
        self._end_text()
        self._events.append((event, json.dumps(data)))
        return self._batch.add(self, self._redis, self._urgent)

    async def write(self, event: str, data: dict[str, Any]) -> None:
        """Append an event as `put` does, and return when it was sent.

        It is sent even when the caller is cancelled meanwhile: a turn that is stopped keeps what it has written, in order.
        """
        await asyncio.shield(self.put(event, data))

    def token(self, text: str) -> None:
        """Append text, together with what arrives within COALESCE_SECONDS; the turn's first is an event of its own, at once."""
        self._text.append(text)
        if not self._speaks:
            self._speaks = True
            self._end_text()
            self._batch.add(self, self._redis, self._urgent)
        elif len(self._text) == 1:
            self._batch.add(self, self._redis, min(self._urgent, Urgency.SOON))

    def take(self) -> list[tuple[str, str, str, str, str]]:
        """Return what waits as key, id, seconds to live, event and data of each entry; from now on it counts as sent."""
        self._end_text()
        taken = []
        for event, data in () if self.broken else self._events:
            ttl = ""
            if event != "turn.delta":
                ttl = str(self._ttl_seconds if event in TERMINAL else RUNNING_TTL_SECONDS)
            taken.append((self._key, f"{self._attempt}-{self._entries}", ttl, event, data))
            self._entries += 1
        self._events.clear()
        return taken

    def fail(self, error: str) -> None:
        """Write no more; `error` is empty when Redis has lost the stream."""
        if not self.broken:
            self.broken = True
            if error:
                logs.warning("stream_unwritable", stream=self._key, error=error)
            else:
                logs.warning("stream_lost", stream=self._key)

    def _end_text(self) -> None:
        if self._text:
            self._events.append(("turn.delta", json.dumps({"text": "".join(self._text)})))
            self._text.clear()


class Batch:
    """What the turns of a process have to write: one command at a time for all, when the most urgent of it is due."""

    def __init__(self) -> None:
        self._writers: dict[TurnWriter, None] = {}
        self._sent: asyncio.Future[None] | None = None
        self._sent_at = -math.inf
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None

    def add(self, writer: TurnWriter, redis: Redis, urgency: Urgency) -> asyncio.Future[None]:
        """Have sent what the writer has; return what is done when it was, whatever came of it."""
        loop = asyncio.get_running_loop()
        self._writers[writer] = None
        if self._sent is None:
            self._sent = loop.create_future()
        now = loop.time()
        due = {
            Urgency.NOW: now,
            Urgency.SOON: max(now, self._sent_at + COALESCE_SECONDS),
            Urgency.LATER: now + COALESCE_SECONDS,
        }[urgency]
        if due < self._due:
            self._due = due
            self._schedule(redis)
        return self._sent

    async def drain(self, redis: Redis) -> None:
        """Send what waits, and return when nothing does any more."""
        while self._writers or self._sending is not None:
            self._due = -math.inf
            self._schedule(redis)
            if self._sending is not None:
                await asyncio.shield(self._sending)

    def _schedule(self, redis: Redis) -> None:
        """Begin to send when it is due; what is being sent just now looks for itself when it has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sending is not None or not self._writers:
            return
        loop = asyncio.get_running_loop()
        if self._due <= loop.time():
            self._begin(redis)
        else:
            self._timer = loop.call_at(self._due, self._begin, redis)

    def _begin(self, redis: Redis) -> None:
        self._timer = None
        self._sending = asyncio.create_task(self._run(redis))

    async def _run(self, redis: Redis) -> None:
        self._sent_at, self._due = asyncio.get_running_loop().time(), math.inf
        writers, sent = self._writers, self._sent
        self._writers, self._sent = {}, None
        try:
            await _send(redis, writers)
        finally:
            self._sending = None
            if not self._writers:
                self._due = math.inf
            if sent is not None:
                sent.set_result(None)
            self._schedule(redis)


async def _send(redis: Redis, writers: Iterable[TurnWriter]) -> None:
    """Send what the writers have; what fails one of them does not touch the others."""
    keys, arguments, owners = [], [], []
    for writer in writers:
        for stream, *entry in writer.take():
            keys.append(stream)
            arguments += entry
            owners.append(writer)
    if not keys:
        return
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            refused = await redis.eval(ADD, len(keys), *keys, *arguments)
    except (RedisError, OSError) as error:
        for writer in owners:
            writer.fail(type(error).__name__)
        return
    for number, reason in refused:
        owners[number - 1].fail(reason)


_batches: WeakKeyDictionary[Redis, Batch] = WeakKeyDictionary()


def _batch(redis: Redis) -> Batch:
    """Return what all writers with the same client share."""
    if redis not in _batches:
        _batches[redis] = Batch()
    return _batches[redis]


async def drain(redis: Redis) -> None:
    """Return when all that waits for a client was sent; its owner closes it after this."""
    if (batch := _batches.get(redis)) is not None:
        await batch.drain(redis)


def endings(turn: dict[str, Any]) -> list[StreamEvent]:
    """Return the events that end a turn: its citations and usage, or its failure."""
    if turn["status"] == "failed":
        return [StreamEvent("turn.failed", {**turn["error"], "turn_id": turn["turn_id"], "usage": turn["usage"]})]
    members = ("turn_id", "status", "model", "tier", "usage", "charged_tokens", "budget")
    return [
        StreamEvent("turn.citations", {"citations": turn["citations"]}),
        StreamEvent(f"turn.{turn['status']}", {name: turn[name] for name in members}),
    ]
