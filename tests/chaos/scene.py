"""A platform under test: turns that are begun around one moment, and what must hold when they have ended."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
    lives: dict[str, float] = field(default_factory=dict)
    """Seconds from a question to the end of its answer when nothing dies."""

    @classmethod
    async def of(cls, platform: Platform, tallies: dict[str, Counter[str]]) -> "Scene":
        """Prepare a platform, and see that it answers each question otherwise."""
        durable = "SELECT current_setting('fsync'), current_setting('synchronous_commit')"
        assert platform.query(durable) == [("on", "on")]
        scene = cls(platform, Upstream(platform), tallies)
        async with connections() as session:
            browser = scene.client(Browser, session)
            for name, text in MANUALS.items():
                await browser.upload(name, text)

            async def answer(question: str) -> Seen:
                begun = time.monotonic()
                seen: Seen = await browser.see_through(question)
                scene.lives[question] = time.monotonic() - begun
                return seen

            # The first ones meet processes that have done nothing yet, and take longer.
            for _ in range(2):
                answers = await asyncio.gather(*map(answer, QUESTIONS))
            await scene.assert_whole(session, answers)
            assert len({seen.text for seen in answers}) == len(QUESTIONS)
        return scene

    def client(self, kind: type[Client], session: aiohttp.ClientSession) -> Any:
        """Return a client of the demo tenant."""
        return kind(self.platform, session, self.platform.stack.tenant_id)

    async def disturbed(
        self,
        clients: Sequence[Client],
        questions: Sequence[str],
        ages: Sequence[float],
        disturb: Callable[[], Awaitable[None]],
    ) -> list[Seen]:
        """Begin turns so that each has its age, in parts of its life, when it is disturbed; return how they ended."""
        leads = [age * self.lives[question] for age, question in zip(ages, questions, strict=True)]

        async def begin(client: Client, question: str, lead: float) -> Seen:
            await asyncio.sleep(max(leads) - lead)
            return await client.see_through(question)

        async with asyncio.TaskGroup() as group:
            turns = [group.create_task(begin(*turn)) for turn in zip(clients, questions, leads, strict=True)]
            await asyncio.sleep(max(leads))
            await disturb()
        return [turn.result() for turn in turns]

    async def assert_whole(self, session: aiohttp.ClientSession, turns: Sequence[Seen]) -> None:
        """Fail unless every turn is completed, told and stored to the letter, charged once, and nothing is left of any.

        The embedding of its question is charged by itself, and once for each time that it was asked for: here only the sums are
        compared with the ledger.
        """
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
        # What a process that was killed held for an embedding is given back ten minutes later: here at once.
        self.platform.query(
            """
            UPDATE budget.reservations SET expires_at = now()
            WHERE closed_at IS NULL AND model IN (SELECT name FROM rag.embedding_models)
            """
        )
        self.platform.query("SELECT budget.expire()")
        await self.platform.until(lambda: self.left() == AT_REST, "something is left", *LOGS)

    def note(self, done: str, turns: Sequence[Seen]) -> None:
        """Count what came of turns that something was done to."""
        tally = self.tallies.setdefault(done, Counter())
        tally["times"] += 1
        for seen in turns:
            tally["turns"] += 1
            tally[seen.ending] += 1
            tally["generated again"] += self.platform.attempts(seen.turn) > 1
            tally["told from the store"] += seen.transcript.data.get("turn.restarted") == {"reason": "stored"}
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
