"""Group commit: what several requests want of the database at the same moment is one call, and one transaction.

Nobody waits for others to come: a call begins as soon as the one before it has ended, with all that has come meanwhile. One
transaction acts for one actor, so that who may do what, and what a budget allows, is decided as for a single call.
(DeWitt et al., "Implementation techniques for main memory database systems", SIGMOD 1984.)
"""

import asyncio
from collections.abc import Awaitable, Hashable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import psycopg

from shared import logs
from shared.connection import Commit
from shared.database import Database, unavailable
from shared.principal import Actor
from shared.problems import Problem

MOST = 32
"""So many at once: what one transaction holds, others of the same tenant wait for."""

Waiting = list[tuple[str, "asyncio.Future[Any]"]]

_queues: WeakKeyDictionary[Database, dict[Hashable, Waiting]] = WeakKeyDictionary()
_running: set[asyncio.Task[None]] = set()


async def call(
    database: Database,
    commit: Commit,
    function: str,
    actor: Actor,
    parameter: str,
    item: str,
    /,
    **shared: object,
) -> Any:
    """Return what an SQL function says of one of several items, or None when the item must be dealt with by itself.

    `item` is JSON; the function takes an array of them in `parameter`, beside `shared`, and returns an object by their numbers
    in it. It does all or nothing, so that what stands against one of them leaves each to be dealt with by itself. With
    Commit.UNAWAITED the caller answers nobody before `flushed`. Raises Problem `database_unavailable`.
    """
    queues = _queues.setdefault(database, {})
    key = (function, actor, commit, tuple(shared.items()))
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    if (waiting := queues.get(key)) is not None:
        waiting.append((item, answer))
    else:
        queues[key] = [(item, answer)]
        task = asyncio.create_task(_run(database, queues, key, parameter, shared))
        _running.add(task)
        task.add_done_callback(_running.discard)
    return await answer


async def _run(
    database: Database,
    queues: dict[Hashable, Waiting],
    key: tuple[str, Actor, Commit, Any],
    parameter: str,
    shared: dict[str, Any],
) -> None:
    """Call the function until nobody waits for it any more."""
    function, actor, commit, _ = key
    ask = partial(database.write, commit, function, actor, **shared)
    try:
        while waiting := queues[key]:
            # Who has gone meanwhile wants nothing any more.
            items = [(item, answer) for item, answer in waiting[:MOST] if not answer.done()]
            del waiting[:MOST]
            if items:
                array = f"[{','.join(item for item, _ in items)}]"
                await _call(ask(**{parameter: array}), function, items)
    finally:
        for _, answer in queues.pop(key):
            answer.cancel()


async def _call(asking: Awaitable[dict[str, Any]], function: str, items: Waiting) -> None:
    answers: dict[str, Any] = {}
    try:
        answers = await asking
    except Problem as problem:
        if problem.code == "database_unavailable":
            for _, answer in items:
                if not answer.done():
                    answer.set_exception(unavailable())
            return
    except psycopg.errors.RaiseException:
        pass  # how the functions say so
    except Exception as error:  # noqa: BLE001 - alone each finds out for itself
        logs.warning("not_together", function=function, items=len(items), error=type(error).__name__)
    finally:
        # Also when this is cancelled.
        for number, (_, answer) in enumerate(items):
            if not answer.done():
                answer.set_result(answers.get(str(number)))


_flushes: WeakKeyDictionary[Database, "_Flushes"] = WeakKeyDictionary()


class _Flushes:
    """The waits for the disk of one database's callers: one at a time, and one for all that come while another goes on."""

    def __init__(self) -> None:
        self.running: asyncio.Task[None] | None = None
        self.next: asyncio.Task[None] | None = None

    async def run(self, database: Database) -> None:
        while self.running is not None and not self.running.done():
            await asyncio.wait([self.running])
        self.running, self.next = self.next, None
        await database.flush()


def flushed(database: Database) -> "asyncio.Task[None]":
    """Return what is done when all that was committed by now is on disk; it raises Problem `database_unavailable`."""
    flushes = _flushes.setdefault(database, _Flushes())
    if flushes.next is None:
        flushes.next = asyncio.create_task(flushes.run(database))
        # Whoever waited for it may have gone.
        flushes.next.add_done_callback(lambda done: done.cancelled() or done.exception())
    return flushes.next
