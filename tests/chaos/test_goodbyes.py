"""SIGTERM in the middle of turns: what can end in time ends, and what cannot goes on elsewhere at once."""

import signal
from collections.abc import Sequence
from random import Random

import aiohttp
import pytest

from tests.chaos.chance import ROUNDS, ages, chance
from tests.chaos.clients import Browser, Client, Completer, Finder, Seen, Waiter
from tests.chaos.questions import QUESTIONS
from tests.chaos.scene import Scene

GOODBYES = max(1, ROUNDS // 5)
CLIENTS: dict[str, tuple[type[Client], ...]] = {
    "inference-standard": (Browser, Browser, Browser, Browser),
    "openai-api": (Completer, Completer, Finder, Waiter),
}


async def say_goodbye(
    scene: Scene, session: aiohttp.ClientSession, part: str, aged: Sequence[float], random: Random
) -> list[Seen]:
    """Ask a part to end when turns have these ages, and return them when they have ended."""
    clients = [scene.client(kind, session) for kind in CLIENTS[part]]

    async def end() -> None:
        scene.platform.kill(part, signal.SIGTERM)
        await scene.platform.back(part)

    turns = await scene.disturbed(clients, random.choices(QUESTIONS, k=len(clients)), aged, end)
    await scene.assert_whole(session, turns)
    return turns


@pytest.mark.parametrize("part", CLIENTS)
@pytest.mark.parametrize("number", range(GOODBYES))
async def test_what_is_generated_ends(scene: Scene, session: aiohttp.ClientSession, part: str, number: int) -> None:
    random = chance("SIGTERM", part, number)
    turns = await say_goodbye(scene, session, part, ages(random, number, GOODBYES), random)
    assert [scene.platform.attempts(seen.turn) for seen in turns] == [1] * len(turns)
    scene.note(f"SIGTERM of {part}", turns)


@pytest.mark.parametrize("part", CLIENTS)
@pytest.mark.parametrize("number", range(GOODBYES))
@pytest.mark.usefixtures("broker")
async def test_what_cannot_end_in_time_is_handed_back(
    patient: Scene, session: aiohttp.ClientSession, part: str, number: int
) -> None:
    # Its leases last ten minutes: what goes on after the second that a process has here was handed back.
    random = chance("SIGTERM, a second", part, number)
    aged = [random.uniform(0.1, 0.3) for _ in CLIENTS[part]]
    turns = await say_goodbye(patient, session, part, aged, random)
    assert any(patient.platform.attempts(seen.turn) > 1 for seen in turns)
    patient.note(f"SIGTERM of {part}, which has a second", turns)
