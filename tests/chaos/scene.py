"""A platform under test: turns that are begun around one moment, and what must hold when they have ended."""

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from infra.local import environment
from infra.local.assembly import MANIFESTS
from infra.local.stack import Stack
from tests.chaos.clients import Browser, Client, Seen
from tests.chaos.questions import MANUALS, QUESTIONS, Upstream
from tests.stack.platform import VARIABLES, Platform
from tests.stack.reader import connections

LOGS = ("chat", "openai-api", "inference-standard", "sweeper", "relay", "broker")
AT_REST = {"unfinished jobs": 0, "events in the outbox": 0, "open reservations": 0, "dead letters": 0}


def start(folder: Path, *, manifests: Path = MANIFESTS, **variables: str) -> Platform:
    """Return a platform that is not started yet, whose PostgreSQL is durable: what dies here may be the database."""
    environ = {**environment.embedded_only(os.environ), **VARIABLES, "TOKEN_BUDGET_DAILY": "100000000", **variables}
    return Platform(Stack(folder / "state", environ=environ, folder=manifests))


@dataclass
class Scene:
    """A started platform whose demo tenant has its manuals."""

    platform: Platform
    upstream: Upstream
    tallies: dict[str, Counter[str]]
    """What came of the turns, by what was done to them."""
    life: float = 0.0
    """Seconds from a question to the end of its answer when nothing dies."""

    @classmethod
    async def of(cls, platform: Platform, tallies: dict[str, Counter[str]]) -> "Scene":
        """Prepare a platform, and see that it answers each question otherwise."""
        scene = cls(platform, Upstream(platform), tallies)
        async with connections() as session:
            browser = scene.client(Browser, session)
            for name, text in MANUALS.items():
                await browser.upload(name, text)
            loop = asyncio.get_running_loop()
            answers, lives = [], []
            for question in QUESTIONS:
                begun = loop.time()
                answers.append(await browser.see_through(question))
                lives.append(loop.time() - begun)
            await scene.assert_whole(session, answers)
            assert len({seen.text for seen in answers}) == len(QUESTIONS)
        scene.life = max(lives)
        return scene

    def client(self, kind: type[Client], session: aiohttp.ClientSession) -> Any:
        """Return a client of the demo tenant."""
        return kind(self.platform, session, self.platform.stack.tenant_id)

    def moments(self, random: Random, number: int, of: int) -> list[float]:
        """Return the ages of turns, in seconds, when something is done to them.

        The first falls at random into its own part of a turn's life and a bit more: together, `of` of them cover it evenly.
        Of the others one is just being accepted and handed on, and one is about to end, be settled and be told.
        """
        edge = 0.1 * self.life
        return [
            (number + random.random()) / of * (self.life + edge),
            random.uniform(0, edge),
            self.life + random.uniform(-edge, edge),
            random.uniform(0, self.life + edge),
        ]

    async def around(
        self, moment: asyncio.Event, ages: Sequence[float], asked: Sequence[Coroutine[Any, Any, Seen]]
    ) -> list[Seen]:
        """Begin turns so that they have these ages when `moment` is set, and return them when they have ended."""

        async def begin(age: float, turn: Coroutine[Any, Any, Seen]) -> Seen:
            await asyncio.sleep(longest - age)
            return await turn

        longest = max(ages)
        async with asyncio.TaskGroup() as group:
            turns = [group.create_task(begin(age, turn)) for age, turn in zip(ages, asked, strict=True)]
            await asyncio.sleep(longest)
            moment.set()
        return [turn.result() for turn in turns]

    async def assert_whole(self, session: aiohttp.ClientSession, turns: Sequence[Seen]) -> None:
        """Fail unless every turn is completed, told and stored to the letter, charged once, and nothing is left of any."""
        user = self.client(Browser, session)
        for seen in turns:
            told = self.platform.tail(*LOGS)
            stored, said = await user.turn(seen.turn), await self.upstream.says(session, seen.turn)
            assert (seen.ending, stored["status"]) == ("completed", "completed"), f"{seen}\n{stored}\n{told}"
            assert stored["answer"] == said.text, f"{seen}\n{told}"
            assert seen.text == said.text, f"{seen}\n{told}"
            assert (await user.replay(seen.turn)).text == said.text, f"{seen}\n{told}"
            assert self.platform.query("SELECT id::text FROM chat.turns WHERE idempotency_key = %s", [seen.key]) == [
                (seen.turn,)
            ]
            assert stored["usage"]["total_tokens"] == said.tokens, f"{seen}\n{stored}"
            self.platform.assert_charged_once(seen.turn, said.tokens)
        await self.at_rest()

    async def at_rest(self) -> None:
        """Return when no job, event or reservation is left; fail when one stays."""
        await self.platform.until(lambda: self.left() == AT_REST, "something is left", *LOGS)

    def note(self, done: str, turns: Sequence[Seen]) -> None:
        """Count what came of turns that something was done to."""
        tally = self.tallies.setdefault(done, Counter())
        tally["times"] += 1
        for seen in turns:
            tally["turns"] += 1
            tally[seen.ending] += 1
            tally["generated again"] += self.platform.attempts(seen.turn) > 1
            tally["asked for again"] += seen.requests > 1

    def left(self) -> dict[str, int]:
        """Return what is on its way, or has gone astray."""
        [row] = self.platform.query(
            """
            SELECT
              (SELECT count(*) FROM inference.jobs WHERE status IN ('queued', 'running')),
              (SELECT count(*) FROM events.outbox),
              (SELECT count(*) FROM budget.reservations WHERE closed_at IS NULL),
              (SELECT count(*) FROM events.dead_letters)
            """
        )
        return dict(zip(AT_REST, row, strict=True))
