"""kill -9 of each part alone, at random moments of turns that are being streamed."""

import aiohttp
import pytest

from tests.chaos.chance import ROUNDS, ages, chance
from tests.chaos.clients import Browser, Client, Completer, Finder, Waiter
from tests.chaos.questions import QUESTIONS
from tests.chaos.scene import Scene

PARTS: dict[str, tuple[type[Client], ...]] = {
    "chat": (Browser, Browser, Browser, Browser),
    "inference-standard": (Browser, Browser, Browser, Browser),
    "relay": (Browser, Browser, Browser, Browser),
    "redis": (Browser, Browser, Completer, Waiter),
    "postgres": (Browser, Browser, Completer, Waiter),
    "openai-api": (Completer, Completer, Finder, Waiter),
}
"""By whom turns are begun that run when a part is killed. The parts take turns, so that each has time to be stable again: a
supervisor lets what dies again and again wait."""


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_every_turn_ends_whole(scene: Scene, session: aiohttp.ClientSession, part: str, number: int) -> None:
    random = chance(part, number)
    clients = [scene.client(kind, session) for kind in random.sample(PARTS[part], len(PARTS[part]))]

    async def kill() -> None:
        scene.platform.kill(part)
        await scene.platform.back(part)
        if part in ("relay", "postgres"):
            # What a relay had claimed, or was about to be told of, is due again after its lease of half a minute.
            scene.platform.query("UPDATE events.outbox SET leased_until = '-infinity'")

    questions = random.choices(QUESTIONS, k=len(clients))
    turns = await scene.disturbed(clients, questions, ages(random, number, ROUNDS), kill)
    await scene.assert_whole(session, turns)
    scene.note(f"kill -9 of {part}", turns)
