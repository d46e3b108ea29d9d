"""Following a turn to its end, whatever happens to Redis or to the process that generates."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import logs
from shared.problems import Problem
from shared.stream_reader import StoredEvent, StreamUnreadableError, read
from shared.streams import StreamEvent, endings, key

CHECK_SECONDS = 2.0
"""How often a reader that hears nothing asks PostgreSQL whether the turn has ended without a word in the stream."""
ENDED = frozenset({"completed", "failed", "stopped"})

ReadTurn = Callable[[], Awaitable[dict[str, Any]]]


async def followed(
    redis: Redis,
    turn_id: UUID,
    after: str,
    read_turn: ReadTurn,
    heartbeat_seconds: float,
    *,
    begun: bool = False,
) -> AsyncGenerator[Sequence[StreamEvent | StoredEvent], None]:
    """Yield the turn's events after a position until it has ended; none where a heartbeat is due.

    The stream is Redis'; the truth is PostgreSQL's. When the stream has expired or lost a part, or Redis fails, or the end
    was never written, the end is told from the stored turn, after `turn.restarted`, so that a client that has seen a part of
    the text replaces it by the whole. `begun` says that the turn is not new, so that its stream may have expired.
    """
    heard, turn, ended = time.monotonic(), None, False
    try:
        if begun and not await redis.exists(key(turn_id)):
            turn = await _stored(read_turn)
        if turn is None:
            async with aclosing(read(redis, turn_id, after, CHECK_SECONDS)) as reading:
                async for events in reading:
                    if events:
                        heard, ended = time.monotonic(), False
                        yield events
                        continue
                    stored = await _stored(read_turn)
                    # The end is stored first and then written. What has not come by the next time will not come.
                    if stored is not None and (ended or not await redis.exists(key(turn_id))):
                        turn = stored
                        break
                    ended = stored is not None
                    if time.monotonic() - heard >= heartbeat_seconds:
                        heard = time.monotonic()
                        yield ()
                else:
                    return
    except (RedisError, OSError, StreamUnreadableError) as error:
        logs.warning("stream_unreadable", turn_id=turn_id, error=type(error).__name__)
    while turn is None and (turn := await _stored(read_turn)) is None:
        yield ()
        await asyncio.sleep(CHECK_SECONDS)
    yield tell(turn)


async def _stored(read_turn: ReadTurn) -> dict[str, Any] | None:
    """Return the turn if it has ended; a database that does not answer just now is asked again later."""
    try:
        turn = await read_turn()
    except Problem as problem:
        if problem.code != "database_unavailable":
            raise
        return None
    return turn if turn["status"] in ENDED else None


def tell(turn: dict[str, Any]) -> list[StreamEvent]:
    """Return the events that a turn which has ended amounts to."""
    events = [StreamEvent("turn.restarted", {"reason": "stored"})]
    if turn["answer"]:
        events.append(StreamEvent("turn.delta", {"text": turn["answer"]}))
    return [*events, *endings(turn)]
