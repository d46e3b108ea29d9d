"""Events between relay and functions that are lost, come twice, or overtake each other. No lease ends and makes up for it."""

import asyncio
from collections import Counter

import aiohttp
import psycopg
import pytest

from tests.chaos.chance import ROUNDS, chance
from tests.chaos.clients import Browser, Seen
from tests.chaos.faulty_broker import FaultyBroker
from tests.chaos.questions import QUESTIONS
from tests.chaos.scene import Scene

LATE_SECONDS = 6.0
"""Longer than a turn lives."""
SPREAD_SECONDS = 2.0
"""Within which the turns are begun."""


async def ask(scene: Scene, session: aiohttp.ClientSession, what: str) -> list[Seen]:
    """Begin two turns a round, at random times, and return them when they have ended."""
    random = chance(what)

    async def begin(wait: float, question: str) -> Seen:
        await asyncio.sleep(wait)
        seen: Seen = await scene.client(Browser, session).see_through(question)
        return seen

    asked = [(random.uniform(0, SPREAD_SECONDS), random.choice(QUESTIONS)) for _ in range(2 * ROUNDS)]
    async with asyncio.TaskGroup() as group:
        turns = [group.create_task(begin(*each)) for each in asked]
    return [turn.result() for turn in turns]


def age(scene: Scene, turns: list[str]) -> None:
    """Make it long ago that these turns' events were emitted: the sweeper gives them a minute."""
    with psycopg.connect(scene.platform.stack.connections.migration_database_url, autocommit=True) as connection:
        # No trigger: it would emit the events.
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "UPDATE inference.jobs SET emitted_at = emitted_at - interval '1 minute' WHERE turn_id = ANY(%s::uuid[])",
            [turns],
        )


async def keep_ageing(scene: Scene, broker: FaultyBroker) -> None:
    """Let a minute go by for every event that was dropped."""
    done = 0
    while True:
        await asyncio.sleep(0.2)
        dropped, done = broker.dropped[done:], len(broker.dropped)
        if dropped:
            age(scene, dropped)


async def finish(
    scene: Scene, session: aiohttp.ClientSession, broker: FaultyBroker, what: str, turns: list[Seen]
) -> None:
    """Whatever is still delivered comes too late to change anything."""
    await broker.drained()
    await scene.assert_whole(session, turns)
    assert [scene.platform.attempts(seen.turn) for seen in turns] == [1] * len(turns)
    scene.note(what, turns)


async def test_dropped(patient: Scene, session: aiohttp.ClientSession, broker: FaultyBroker) -> None:
    random, came = chance("dropped"), Counter[str]()

    def first_and_half_of_the_others(subject: str) -> tuple[float, ...]:
        came[subject] += 1
        return () if came[subject] == 1 or random.random() < 0.5 else (0.0,)

    broker.fault = first_and_half_of_the_others
    ageing = asyncio.create_task(keep_ageing(patient, broker))
    turns = await ask(patient, session, "dropped")
    ageing.cancel()
    assert {seen.turn for seen in turns} == set(broker.dropped)
    await finish(patient, session, broker, "every event dropped once or more", turns)


async def test_duplicated(patient: Scene, session: aiohttp.ClientSession, broker: FaultyBroker) -> None:
    random = chance("duplicated")
    broker.fault = lambda _: (0.0, 0.0, random.uniform(0, LATE_SECONDS))
    turns = await ask(patient, session, "duplicated")
    await finish(patient, session, broker, "every event delivered three times", turns)
    assert Counter(broker.passed) == {seen.turn: 3 for seen in turns}


async def test_reordered(patient: Scene, session: aiohttp.ClientSession, broker: FaultyBroker) -> None:
    loop = asyncio.get_running_loop()
    turning = loop.time() + SPREAD_SECONDS + 1.0
    # What comes last leaves first, but for what comes in the same moment or later than that.
    broker.fault = lambda _: (max(0.0, 2 * (turning - loop.time())),)
    turns = await ask(patient, session, "reordered")
    await finish(patient, session, broker, "events delivered in the opposite order", turns)
    assert Counter(broker.passed) == Counter(broker.came)
    assert broker.passed.index(broker.came[0]) >= ROUNDS


@pytest.mark.parametrize("number", range(max(1, ROUNDS // 10)))
async def test_all_at_once(patient: Scene, session: aiohttp.ClientSession, broker: FaultyBroker, number: int) -> None:
    random = chance("all", number)

    def some(_: str) -> tuple[float, ...]:
        return tuple(random.uniform(0, LATE_SECONDS) for _ in range(random.choice((0, 1, 2, 3))))

    broker.fault = some
    ageing = asyncio.create_task(keep_ageing(patient, broker))
    turns = await ask(patient, session, f"all at once/{number}")
    ageing.cancel()
    await finish(patient, session, broker, "events dropped, repeated and late, all at once", turns)
