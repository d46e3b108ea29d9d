"""Group commit: what several requests want of the database at the same moment is one call, and one transaction.

Nobody waits for others to come: a call begins as soon as the one before it has ended, with all that has come meanwhile. One
transaction acts for one actor, so that who may do what, and what a budget allows, is decided as for a single call.
(DeWitt et al., "Implementation techniques for main memory database systems", SIGMOD 1984.)
"""

import asyncio
from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

import psycopg

from shared import logs
from shared.database import Database, unavailable
from shared.principal import Actor
from shared.problems import Problem

MOST = 32
"""So many at once: what one transaction holds, others of the same tenant wait for."""

Waiting = list[tuple[str, "asyncio.Future[Any]"]]

_queues: WeakKeyDictionary[Database, dict[Hashable, Waiting]] = WeakKeyDictionary()
_running: set[asyncio.Task[None]] = set()


async def call(database: Database, function: str, actor: Actor, parameter: str, item: str, **shared: object) -> Any:
    """Return what an SQL function says of one of several items, or None when the item must be dealt with by itself.

    `item` is JSON; the function takes an array of them in `parameter`, beside `shared`, and returns an object by their numbers
    in it. It does all or nothing, so that what stands against one of them leaves each to be dealt with by itself. Raises
    Problem `database_unavailable`.
    """
    queues = _queues.setdefault(database, {})
    key = (function, actor, tuple(shared.items()))
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
    key: tuple[str, Actor, Any],
    parameter: str,
    shared: dict[str, Any],
) -> None:
    """Call the function until nobody waits for it any more."""
    function, actor, _ = key
    try:
        while waiting := queues[key]:
            # Who has gone meanwhile wants nothing any more.
            items = [(item, answer) for item, answer in waiting[:MOST] if not answer.done()]
            del waiting[:MOST]
            if items:
                await _call(
                    database, function, actor, items, {parameter: f"[{','.join(item for item, _ in items)}]", **shared}
                )
    finally:
        for _, answer in queues.pop(key):
            answer.cancel()


async def _call(database: Database, function: str, actor: Actor, items: Waiting, arguments: dict[str, Any]) -> None:
    answers: dict[str, Any] = {}
    try:
        answers = await database.call_releasing_early(function, actor, **arguments)
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
