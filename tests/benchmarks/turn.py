"""How long a warm turn takes from the request to the first token at the client, step by step, on the stand-in model.

Started as `python -m tests.benchmarks.turn` (`make bench-turn`). It starts a throw-away stack whose database is as
durable as a real one, ingests the project's documentation, and asks one question at a time. The steps:

    auth, rate limit, embedding, begin_turn   as the chat function tells them (Server-Timing)
    relay        from the commit of the job until the broker has taken its event, as the relay learns it
    dispatch     from there until an inference process has claimed the job
    first token  from there until the client has the answer's first token, through the turn's stream
    other        the rest of the total; negative when steps overlap, as the relay sees a commit before its caller does

After each turn its floors are measured, each done alone and directly: the embedding and the first token (of the same
prompt) by the model server, and the statement that decides a turn on an open connection, committed. `ratio` is the
median of the turns' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

import aiohttp
import psycopg

from infra.local import environment
from infra.local.client import PlatformClient
from infra.local.demo import QUESTIONS, own_documents
from infra.local.sse import read_events
from infra.local.stack import Stack
from shared.settings import with_scheme
from tests.benchmarks.floors import ModelServer, begin_turn
from tests.benchmarks.timeline import SERVER_SETTINGS, Observer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIABLES = {
    "ENVIRONMENT": "dev",
    "LITELLM_API_KEY": "sk-benchmark",
    "MODEL_TOKENS_PER_SECOND": "0",  # as fast as it can
    "RATE_LIMIT_PER_MINUTE": "1000000",
    "TOKEN_BUDGET_DAILY": "1000000000",
    "TOKEN_BUDGET_MONTHLY": "1000000000",
}
SUBJECT = "demo"
REPORTED = ("auth", "rate_limit", "embedding", "begin_turn")
STEPS = (*REPORTED, "relay", "dispatch", "first_token", "other")
_TIMING = re.compile(r"(\w+);dur=([\d.]+)")
_POLL_SECONDS = 0.1
_INGESTION_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A turn as its client saw it; the moments are seconds since 1970, the steps seconds."""

    turn_id: str
    model: str
    max_tokens: int
    began: float
    first_seen: float
    steps: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn by steps, its total, and its floor, in seconds."""

    steps: Mapping[str, float]
    total: float
    floors: Mapping[str, float]
    """By the step that it is the floor of."""


class Bench:
    """Asks the stack, and does alone what a turn cannot do without."""

    def __init__(
        self,
        stack: Stack,
        session: aiohttp.ClientSession,
        observer: Observer,
        connection: psycopg.Connection,
    ) -> None:
        self._stack = stack
        self._session = session
        self._observer = observer
        self._connection = connection
        self._model = ModelServer(session, stack.connections.model_url, VARIABLES["LITELLM_API_KEY"])
        self._headers = {"Authorization": f"Bearer {stack.token_for(stack.tenant_id, subject=SUBJECT)}"}

    async def ingest(self) -> int:
        """Hand over the project's documentation, wait until it is indexed, and return the number of its chunks."""
        client = PlatformClient(self._session, self._stack.urls, self._stack.token)
        for file in own_documents():
            await client.upload(file.name, await asyncio.to_thread(file.path.read_bytes), file.media_type)
        deadline = time.monotonic() + _INGESTION_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            states = await client.documents()
            if all(state["status"] == "indexed" for state in states):
                return sum(state["chunks_embedded"] for state in states)
            await asyncio.sleep(_POLL_SECONDS)
        raise TimeoutError(f"the documents are not indexed after {_INGESTION_TIMEOUT_SECONDS:g} s")

    async def sample(self, question: str) -> Sample:
        """Measure a turn, then its floor."""
        asked = await self._ask(question)
        moments = self._observer.wait_for_end(asked.turn_id)
        total = asked.first_seen - asked.began
        steps = {
            **asked.steps,
            "relay": moments.accepted - moments.committed,
            "dispatch": moments.claimed - moments.accepted,
            "first_token": asked.first_seen - moments.claimed,
        }
        steps["other"] = total - sum(steps.values())
        return Sample(steps, total, await self._floors(question, asked))

    async def _floors(self, question: str, asked: Asked) -> dict[str, float]:
        messages = self._observer.prompt(self._stack.tenant_id, asked.turn_id)
        first_token = await self._model.first_token_seconds(asked.model, messages, asked.max_tokens)
        embedding_seconds, embedding = await self._model.embed(question)
        statement, turn_id = begin_turn(self._connection, self._stack.tenant_id, SUBJECT, question, embedding)
        self._observer.wait_for_end(turn_id)
        return {"embedding": embedding_seconds, "begin_turn": statement, "first_token": first_token}

    async def _ask(self, question: str) -> Asked:
        began = time.time()
        async with self._session.post(
            self._stack.urls["chat"] + "/chat", json={"message": question}, headers=self._headers
        ) as response:
            response.raise_for_status()
            timing = {step: float(ms) / 1000 for step, ms in _TIMING.findall(response.headers["Server-Timing"])}
            first_seen = 0.0
            last = ""
            async for event in read_events(response.content.iter_any()):
                if event.event == "turn.delta" and not first_seen:
                    first_seen = time.time()
                last = event.event
                if event.event == "turn.accepted":
                    accepted = json.loads(event.data)
        if last != "turn.completed" or not first_seen:
            raise RuntimeError(f"the turn ended with {last or 'nothing'}")
        return Asked(
            accepted["turn_id"],
            accepted["model"],
            accepted["max_tokens"],
            began,
            first_seen,
            {step: timing[step] for step in REPORTED},
        )


def measure(turns: int, warm_up: int) -> list[Sample]:
    """Return the samples of `turns` turns, after as many as warm everything up; everything started is ended."""
    hidden = {"LITELLM_BASE_URL", "LITELLM_EMBEDDING_MODEL", "LITELLM_DEFAULT_MODEL", "EMBEDDING_DIMENSIONS"}
    environ = {name: value for name, value in environment.embedded_only(os.environ).items() if name not in hidden}
    with tempfile.TemporaryDirectory(prefix="bench-turn-", ignore_cleanup_errors=True) as folder:
        stack = Stack(Path(folder) / "state", environ={**environ, **VARIABLES}, postgres_settings=SERVER_SETTINGS)
        with stack:
            return asyncio.run(_measure(stack, turns, warm_up))


async def _measure(stack: Stack, turns: int, warm_up: int) -> list[Sample]:
    database_url = with_scheme(stack.connections.database_url, "postgresql")
    async with aiohttp.ClientSession() as session:
        with (
            Observer.of(stack.connections.migration_database_url) as observer,
            psycopg.connect(database_url, autocommit=True) as connection,
        ):
            bench = Bench(stack, session, observer, connection)
            chunks = await bench.ingest()
            print(f"{chunks} chunks indexed; {warm_up} turns to warm up, {turns} to measure.")
            questions = islice(cycle(QUESTIONS), warm_up + turns)
            return [await bench.sample(question) for question in questions][warm_up:]


def report(samples: Sequence[Sample]) -> None:
    """Print each step with its floor where it has one, and the total with all of them."""
    print(f"{'step':24}{'median':>10}{'p95':>10}{'floor':>10}{'p95':>10}{'ratio':>8}")
    for step in STEPS:
        floors = [sample.floors[step] for sample in samples if step in sample.floors]
        _line(step, [sample.steps[step] for sample in samples], floors)
    _line("total to first token", [s.total for s in samples], [sum(s.floors.values()) for s in samples])
    print(f"{len(samples)} turns; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")


def _line(name: str, seconds: Sequence[float], floors: Sequence[float]) -> None:
    print(f"{name:24}{_figures(seconds)}", end="")
    if floors:
        ratios = [own / floor for own, floor in zip(seconds, floors, strict=True)]
        print(f"{_figures(floors)}{median(ratios):>6.2f} x", end="")
    print()


def _figures(seconds: Sequence[float]) -> str:
    """Return median and 95th percentile in milliseconds."""
    p95 = quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    return f"{median(seconds) * 1000:>7.1f} ms{p95 * 1000:>7.1f} ms"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.turn")
    parser.add_argument("--turns", type=int, default=30, help="turns to measure (default: 30)")
    parser.add_argument("--warm-up", type=int, default=6, help="turns before them (default: 6)")
    options = parser.parse_args(arguments)
    # A request to end is an interruption, so that everything that was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report(measure(options.turns, options.warm_up))
    return 0


if __name__ == "__main__":
    sys.exit(main())
