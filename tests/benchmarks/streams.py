"""Many turns streamed at once by real processes on this machine: does any fail, what do they cost, what do tokens wait for?

Started as `python -m tests.benchmarks.streams` (`make bench-streams`). A model server of its own (`token_source`)
writes each answer at 30 tokens a second and says in every token when it was sent; the client subtracts that from its
arrival. So one figure is what the way through inference, Redis and chat adds to a token. Beside them, in the same
run, a few streams are read from the model server directly by the same client: that is the floor, and no fault of the
platform. Streams begin one after the other and all go on for `--seconds` side by side; meanwhile one short turn a
second is asked, whose first token shows what a turn waits for under that load. The text of every turn, as it was
streamed and as it is stored, must be the tokens, each once.

The containerConcurrency of `inference`, which the local broker honours, is raised for this run: a cluster would start
pods.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

import aiohttp

from infra.local import environment, ports
from infra.local.assembly import MANIFESTS, ROOT
from infra.local.ports import HOST
from infra.local.process import ChildProcess
from infra.local.stack import Stack
from tests.benchmarks.processes import Cost, costs
from tests.benchmarks.token_client import Reception, read
from tests.benchmarks.token_source import DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOKENS_PER_SECOND = 30
DIRECT_STREAMS = 10
PROBE_TOKENS = 5
BEGUN_A_SECOND = 15
MAX_GROWTH = 1.1
"""A process's memory in the last fifth of the run over that in the fifth after all streams have begun."""
STORES = ("postgres", "redis")
"""Their memory grows with what they keep: Redis the streams, PostgreSQL the pages that it has read."""
KEPT_BYTES_A_TOKEN = 100
"""`inference` holds each answer, as the pieces that came, until it is complete."""
VARIABLES = {
    "ENVIRONMENT": "dev",
    "LITELLM_API_KEY": "sk-benchmark",
    "EMBEDDING_DIMENSIONS": str(DIMENSIONS),
    "MODEL_ROUTING_ENABLED": "false",
    "RATE_LIMIT_PER_MINUTE": "1000000",
    "TOKEN_BUDGET_DAILY": "1000000000",
    "TOKEN_BUDGET_MONTHLY": "1000000000",
}
_SAMPLE_SECONDS = 2.0
_MB = 1_000_000


@dataclass
class Run:
    """What was measured; the moments are seconds of CLOCK_MONOTONIC between which all streams were open."""

    turns: list[Reception]
    probes: list[Reception]
    direct: list[Reception]
    begun: float
    ended: float
    samples: list[tuple[float, dict[str, Cost]]]
    wrong: list[str] = field(default_factory=list)


@contextmanager
def token_source(folder: Path) -> Iterator[tuple[str, int]]:
    """Start the model server; yield its URL and process id."""
    [port] = ports.free(["tokens"]).values()
    env = {**os.environ, "HOST": HOST, "PORT": str(port), "TOKENS_PER_SECOND": str(TOKENS_PER_SECOND)}
    command = (sys.executable, "-m", "tests.benchmarks.token_source")
    process = ChildProcess("token-source", command, env=env, cwd=ROOT, log_path=folder / "token-source.log")
    process.start()
    try:
        assert process.pid is not None
        yield f"http://{HOST}:{port}", process.pid
    finally:
        process.stop()


def manifests(folder: Path, concurrency: int) -> Path:
    """Return a copy of the manifests in which an inference process may hold so many turns."""
    copied = folder / "manifests"
    shutil.copytree(MANIFESTS, copied)
    for path in copied.glob("services/inference*.yaml"):
        path.write_text(re.sub(r"containerConcurrency: \d+", f"containerConcurrency: {concurrency}", path.read_text()))
    return copied


def measure(streams: int, seconds: float) -> Run:
    """Run the benchmark; everything started is ended."""
    hidden = {"LITELLM_EMBEDDING_MODEL", "LITELLM_DEFAULT_MODEL", "MODEL_LIGHT", "MODEL_STANDARD", "MODEL_HEAVY"}
    environ = {name: value for name, value in environment.embedded_only(os.environ).items() if name not in hidden}
    with tempfile.TemporaryDirectory(prefix="bench-streams-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with token_source(folder) as (upstream, pid):
            stack = Stack(
                folder / "state",
                environ={**environ, **VARIABLES, "LITELLM_BASE_URL": upstream},
                folder=manifests(folder, 2 * streams),
            )
            with stack:
                return asyncio.run(Load(stack, upstream, pid).run(streams, seconds))


class Load:
    """Asks, reads and watches."""

    def __init__(self, stack: Stack, upstream: str, upstream_pid: int) -> None:
        self._stack = stack
        self._upstream = upstream
        self._headers = {"authorization": f"Bearer {stack.token}", "content-type": "application/json"}
        pids = {name: part.pid for name, part in stack.processes.items() if part.pid is not None}
        self._pids = {**pids, "(token source)": upstream_pid}

    async def run(self, streams: int, seconds: float) -> Run:
        """Begin the streams, keep them for so long, and read them to their ends."""
        await self._ask(PROBE_TOKENS)
        ramp = streams / BEGUN_A_SECOND
        samples: list[tuple[float, dict[str, Cost]]] = []
        watching = asyncio.create_task(self._watch(samples))
        began = time.monotonic()
        direct, turns, probes = [], [], []
        for number in range(streams):
            # All end together, a little after the time.
            tokens = round((began + ramp + seconds + 2 - time.monotonic()) * TOKENS_PER_SECOND)
            turns.append(asyncio.create_task(self._ask(tokens)))
            if number % max(1, streams // DIRECT_STREAMS) == 0:
                direct.append(asyncio.create_task(self._ask_directly(tokens)))
            await asyncio.sleep(max(0.0, began + (number + 1) / BEGUN_A_SECOND - time.monotonic()))
        begun = time.monotonic()
        while time.monotonic() < begun + seconds:
            probes.append(asyncio.create_task(self._ask(PROBE_TOKENS)))
            await asyncio.sleep(1)
        ended = time.monotonic()
        run = Run(
            await asyncio.gather(*turns),
            await asyncio.gather(*probes),
            await asyncio.gather(*direct),
            begun,
            ended,
            samples,
        )
        watching.cancel()
        run.wrong += await self._failures([*run.turns, *run.probes])
        return run

    async def _ask(self, tokens: int) -> Reception:
        body = json.dumps({"message": "Count.", "max_tokens": tokens}).encode()
        reception = await read(self._stack.urls["chat"] + "/chat", body, self._headers, b"event: turn.completed")
        return self._checked(reception, tokens)

    async def _ask_directly(self, tokens: int) -> Reception:
        body = json.dumps({"stream": True, "max_tokens": tokens}).encode()
        reception = await read(self._upstream + "/v1/chat/completions", body, self._headers, b"[DONE]")
        return self._checked(reception, tokens)

    @staticmethod
    def _checked(reception: Reception, tokens: int) -> Reception:
        if not reception.failure and not (reception.completed and reception.count == tokens):
            reception.failure = f"{reception.count} of {tokens} tokens, completed: {reception.completed}"
        return reception

    async def _failures(self, turns: Sequence[Reception]) -> list[str]:
        """Compare what was streamed with what is stored, and return what is wrong with either."""
        wrong = [turn.failure for turn in turns if turn.failure]
        async with aiohttp.ClientSession(headers=self._headers) as session:
            for turn in turns:
                async with session.get(f"{self._stack.urls['chat']}/turns/{turn.turn_id}") as response:
                    stored = await response.json()
                numbers = [int(token.partition(":")[0]) for token in (stored.get("answer") or "").split(";")[:-1]]
                if stored.get("status") != "completed" or numbers != list(range(turn.count)):
                    wrong.append(f"turn {turn.turn_id} is stored otherwise: {stored.get('status')}, {len(numbers)}")
        return wrong

    async def _watch(self, samples: list[tuple[float, dict[str, Cost]]]) -> None:
        while True:
            samples.append((time.monotonic(), costs(self._pids, alone={"(client)": os.getpid()})))
            await asyncio.sleep(_SAMPLE_SECONDS)


def report(run: Run) -> list[str]:
    """Print the figures, and return what must not be, as sentences."""
    wrong = list(run.wrong)
    if begun_again := sum(turn.restarts > 0 for turn in run.turns):
        wrong.append(f"{begun_again} answers were begun again by another process")
    seconds = run.ended - run.begun

    def within(receptions: Sequence[Reception]) -> list[float]:
        every = itertools.chain.from_iterable(reception.latencies for reception in receptions)
        return [late for at, late in every if run.begun <= at <= run.ended]

    tokens, floor = within(run.turns), within(run.direct)
    print(f"{len(run.turns)} streams for {seconds:.0f} s: {len(tokens) / seconds:.0f} tokens/s arrived.")
    print(f"{'':44}{'median':>10}{'p99':>10}")
    _line("a token, from its sending to its arrival", tokens)
    _line("the same, read directly (floor)", floor)
    print(f"{'  added':44}{_ms(median(tokens) - median(floor))}{_ms(_p99(tokens) - _p99(floor))}")
    firsts = [probe.latencies[0][1] for probe in run.probes if probe.latencies]
    _line("a turn's first token, from its sending", firsts)
    _line("from the request, under this load", [p.first - p.asked for p in run.probes if p.latencies])
    _line("from the request, while streams begin", [t.first - t.asked for t in run.turns if t.latencies])
    _line("the same, read directly (floor)", [d.first - d.asked for d in run.direct if d.latencies])

    inside = [(at, sample) for at, sample in run.samples if run.begun <= at <= run.ended]
    first, last = inside[0], inside[-1]
    fifth = max(1, len(inside) // 5)
    print(f"\n{'':20}{'CPU':>10}{'memory':>14}{'in the end':>14}")
    total = 0.0
    for name in first[1]:
        cpu = (last[1][name].cpu_seconds - first[1][name].cpu_seconds) / (last[0] - first[0])
        total += cpu
        early = median(sample[name].resident_bytes for _, sample in inside[:fifth])
        late = median(sample[name].resident_bytes for _, sample in inside[-fifth:])
        if cpu > 0.005 or name == "chat":
            print(f"{name:20}{cpu * 100:>8.1f} %{early / _MB:>11.1f} MB{late / _MB:>11.1f} MB")
        kept = KEPT_BYTES_A_TOKEN * len(tokens) if name.startswith("inference") else 0
        if not name.startswith("(") and name not in STORES and late > MAX_GROWTH * early + kept:
            wrong.append(f"the memory of {name} grew from {early / _MB:.1f} to {late / _MB:.1f} MB")
    print(f"{'all':20}{total * 100:>8.1f} %  of {os.cpu_count()} cores; load average {os.getloadavg()[0]:.1f}")
    return wrong


def _line(name: str, seconds: Sequence[float]) -> None:
    print(f"{name:44}{_ms(median(seconds))}{_ms(_p99(seconds))}" if seconds else f"{name:44}{'none':>10}")


def _p99(seconds: Sequence[float]) -> float:
    return quantiles(seconds, n=100, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:>7.1f} ms"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 when a stream failed or memory grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.streams")
    parser.add_argument("--streams", type=int, default=300, help="streams at once (default: 300)")
    parser.add_argument("--seconds", type=float, default=60, help="how long all of them are open (default: 60)")
    options = parser.parse_args(arguments)
    # A request to end is an interruption, so that everything that was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wrong = report(measure(options.streams, options.seconds))
    for sentence in wrong[:20]:
        print(f"wrong: {sentence}")
    print(f"{len(wrong)} things went wrong." if wrong else "Every stream was whole.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
