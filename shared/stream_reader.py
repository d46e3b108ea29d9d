"""Reading turns' streams: one connection for all that a process follows, and only while somebody follows.

A reader is given what the shared reading brings, from a buffer of its own. One that falls too far behind is given no more:
it reads what it has missed from Redis, at its own pace, and joins the others again.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.streams import BEGINNING, TERMINAL, encoded, key

PAGE = 500
"""Entries of one stream that are read at a time."""
MAX_WAITING = 256
"""Entries that may wait for a reader."""
BLOCK_SECONDS = 2.0
"""How long Redis holds an answer back when there is nothing to tell; less than the client's time-out."""
PACE_SECONDS = 0.00005
"""A command that follows n streams is sent n times this after the one before: its cost grows with their number."""
WAKE_TTL_SECONDS = 60

Position = tuple[int, int]


class StreamUnreadableError(Exception):
    """Redis failed while the stream was read."""


class EntriesLostError(StreamUnreadableError):
    """The stream no longer holds what followed a position."""


class StoredEvent:
    """An entry of a stream. `json` is its data as it is stored; what is made of it is made once for all readers."""

    __slots__ = ("_encoded", "ends", "event", "id", "json", "position")

    def __init__(self, id_: str, event: str, data: str) -> None:
        self.id = id_
        self.event = event
        self.json = data
        self.position = _position(id_)
        self.ends = event in TERMINAL
        self._encoded: bytes | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The data, parsed."""
        parsed: dict[str, Any] = json.loads(self.json)
        return parsed

    def encode(self) -> bytes:
        """Return the event in the event-stream format."""
        if self._encoded is None:
            self._encoded = encoded(self.id, self.event, self.json)
        return self._encoded


def _position(id_: str) -> Position:
    attempt, _, number = id_.partition("-")
    return int(attempt), int(number)


def _adjoins(position: Position, following: Position) -> bool:
    """Return whether nothing lies between two positions: the next entry of an attempt, or the first of a later one."""
    return following[1] == (position[1] + 1 if following[0] == position[0] else 0)


class _Follower:
    """A reader's place in a stream and what waits for it."""

    def __init__(self, after: str) -> None:
        self.position = _position(after)
        self.live = False
        # What has ended may be followed from its end.
        self.behind = after != BEGINNING
        self.ended = False
        self.waiting: list[StoredEvent] = []
        self.failure: StreamUnreadableError | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    def push(self, events: Iterable[StoredEvent]) -> None:
        """Take the events that follow the position."""
        for event in events:
            if event.position <= self.position or self.ended:
                continue
            if not _adjoins(self.position, event.position):
                self.fail(EntriesLostError(event.id))
                return
            self.position = event.position
            self.ended = event.ends
            self.waiting.append(event)
        self._arrived()

    def fail(self, failure: StreamUnreadableError) -> None:
        """Raise this when all that waits has been read."""
        self.failure = failure
        self._arrived()

    async def next(self, seconds: float) -> list[StoredEvent]:
        """Return what waits, or what comes within so long."""
        if not self.waiting and self.failure is None:
            loop = asyncio.get_running_loop()
            self._arrival = loop.create_future()
            # The timer is not set anew for every token: it looks at the deadline when it goes off.
            self._deadline = loop.time() + seconds
            if self._timer is None:
                self._timer = loop.call_at(self._deadline, self._look)
            await self._arrival
        events, self.waiting = self.waiting, []
        if not events and self.failure is not None:
            raise self.failure
        return events

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if self._arrival is None or self._arrival.done():
            return
        if loop.time() >= self._deadline:
            self._arrival.set_result(None)
        else:
            self._timer = loop.call_at(self._deadline, self._look)

    def _arrived(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


class _Topic:
    """A stream that is followed: how far it was read, and for whom."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self.followers: set[_Follower] = set()


class StreamReader:
    """What a process follows, read by one command at a time."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._task: asyncio.Task[None] | None = None
        self._wakings: set[asyncio.Task[None]] = set()
        # A blocked command knows nothing of the streams that are followed since: an entry of this stream ends it.
        self._wake_key = f"reader:{uuid4()}"
        self._woken = BEGINNING
        self._blocked = False

    async def follow(
        self, redis: Redis, stream: str, after: str, wait_seconds: float
    ) -> AsyncGenerator[list[StoredEvent], None]:
        """Yield the stream's events after a position until a terminal one; none when nothing came for `wait_seconds`.

        Raises StreamUnreadableError, EntriesLostError, and redis.exceptions.RedisError or OSError when Redis fails.
        """
        follower = _Follower(after)
        try:
            while True:
                apart = not (follower.live or follower.waiting or follower.failure)
                if apart and (follower.behind or not self._join(redis, stream, follower)):
                    page = await _page(redis, stream, follower.position)
                    if page and page[0].position == follower.position and page.pop(0).ends:
                        return
                    follower.behind = len(page) >= PAGE
                    follower.push(page)
                    if not page and not self._join(redis, stream, follower):
                        raise EntriesLostError(stream)
                events = await follower.next(wait_seconds)
                yield events
                if events and events[-1].ends:
                    return
        finally:
            follower.close()
            self._leave(stream, follower)

    def _join(self, redis: Redis, stream: str, follower: _Follower) -> bool:
        """Give the follower what is read from now on; return False when it has to catch up with the others first."""
        topic = self._topics.get(stream)
        if topic is None:
            topic = self._topics[stream] = _Topic(follower.position)
            self._wake(redis)
        elif follower.position < topic.position:
            return False
        topic.followers.add(follower)
        follower.live = True
        return True

    def _leave(self, stream: str, follower: _Follower) -> None:
        follower.live = False
        if (topic := self._topics.get(stream)) is not None:
            topic.followers.discard(follower)
            if not topic.followers:
                del self._topics[stream]

    def _wake(self, redis: Redis) -> None:
        """Have the streams read that are followed now."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(redis))
        elif self._blocked:
            self._blocked = False
            waking = asyncio.create_task(self._unblock(redis))
            self._wakings.add(waking)
            waking.add_done_callback(self._wakings.discard)

    async def _unblock(self, redis: Redis) -> None:
        try:
            async with redis.pipeline(transaction=False) as pipe:
                pipe.xadd(self._wake_key, {"": ""}, maxlen=1)
                pipe.expire(self._wake_key, WAKE_TTL_SECONDS)
                await pipe.execute()
        except (RedisError, OSError):
            # The command that it should end fails too, or ends by itself.
            return

    async def _run(self, redis: Redis) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._topics:
                topics = self._topics.copy()
                places: dict[Any, Any] = {self._wake_key: self._woken}
                for stream, topic in topics.items():
                    places[stream] = f"{topic.position[0]}-{topic.position[1]}"
                due = loop.time() + PACE_SECONDS * len(places)
                self._blocked = True
                found: Any = await redis.xread(places, count=PAGE, block=int(BLOCK_SECONDS * 1000))
                self._blocked = False
                for stream, entries in found:
                    if stream == self._wake_key:
                        self._woken = entries[-1][0]
                    else:
                        # Not for those who have begun to follow the stream meanwhile, from another position.
                        self._deliver(stream, topics[stream], entries)
                if (early := due - loop.time()) > 0:
                    await asyncio.sleep(early)
        except (RedisError, OSError) as error:
            self._fail(type(error).__name__)
        finally:
            self._blocked = False
            self._task = None

    def _deliver(self, stream: str, topic: _Topic, entries: Sequence[tuple[str, dict[str, str]]]) -> None:
        events = [StoredEvent(id_, fields["event"], fields["data"]) for id_, fields in entries]
        topic.position = events[-1].position
        for follower in list(topic.followers):
            follower.push(events)
            if len(follower.waiting) >= MAX_WAITING:
                follower.behind = True
                self._leave(stream, follower)
            elif follower.failure is not None:
                self._leave(stream, follower)

    def _fail(self, error: str) -> None:
        topics, self._topics = self._topics, {}
        for topic in topics.values():
            for follower in topic.followers:
                follower.live = False
                follower.fail(StreamUnreadableError(error))


async def _page(redis: Redis, stream: str, position: Position) -> list[StoredEvent]:
    """Return entries from a position on, that of the position too."""
    entries: Any = await redis.xrange(stream, f"{position[0]}-{position[1]}", count=PAGE + 1)
    return [StoredEvent(id_, fields["event"], fields["data"]) for id_, fields in entries]


_readers: WeakKeyDictionary[Redis, StreamReader] = WeakKeyDictionary()


def read(redis: Redis, turn_id: UUID | str, after: str, wait_seconds: float) -> AsyncGenerator[list[StoredEvent], None]:
    """Follow a turn's stream, with the reader that all who use the same client share."""
    if redis not in _readers:
        _readers[redis] = StreamReader()
    return _readers[redis].follow(redis, key(turn_id), after, wait_seconds)
