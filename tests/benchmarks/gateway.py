"""What the platform costs as a gateway, beside a LiteLLM proxy and a thin pass-through, in front of one mock model server.

Started as `python -m tests.benchmarks.gateway` (`make bench-gateway`, which installs LiteLLM). The parties, each in processes
of its own and all running all the time:

    direct        the model server (upstream.py), asked by the client: what the added times are measured from
    pass-through  pass_through.py: an aiohttp server that forwards bytes, the floor
    litellm       a LiteLLM proxy as its documentation advises for production: one worker (it can use one of the cores;
                  `--litellm-workers` starts more), uvicorn with uvloop and httptools, no database, no debugging, a master key
    platform      the local stack, as durable as a real one (fsync on), each function one process, asked through openai-api
                  with an API key; it authenticates, limits, reserves, stores, dispatches and charges every request

Each round measures every kind of request at every number of clients, the parties in turn, in an order that moves on. A request
has a prompt of 1 KB; the answer is 60 tokens in 60 chunks. The kinds:

    whole         not streamed; the model answers at once
    stream        streamed; the model sends its whole stream at once, so that the party sets the pace: its throughput and CPU
    paced         streamed; the first token after 100 ms, then one each 20 ms, as a model does it: the time to the first token
                  that a party adds to the model's, unless its throughput is exhausted

Goals, of the platform beside LiteLLM in this run. CPU a request, of all its processes and PostgreSQL's, also between requests
and in the half second after the last: at most 0.3 times. Requests/s at 16 clients: at least 3 times. Both whole and streamed.
Added time to the first token (medians), paced, at each number of clients: at most 0.25 times. p99 at 64 clients, whole and
streamed: at most 3 times p50. No failure: every answer's text and usage are checked. Exit status 1 when a goal is missed.

`--target URL --key KEY [--model NAME] [--pid PID ...]` measures another server in the place of the platform; it stands in front
of the model server when it expects that on the port of `--upstream-port`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import scalar_row

from infra.local import environment
from infra.local.process import PartError
from infra.local.stack import Stack
from infra.seed import Seeder
from shared.settings import with_scheme
from tests.benchmarks import processes
from tests.benchmarks.load import Block, Result
from tests.benchmarks.upstream import CHAT_MODELS, EMBEDDING_MODEL, TEXT, TOKENS, WIDTH
from tests.litellm.proxy import LiteLLM, configuration, model
from tests.servers import ROOT, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CLIENTS = (1, 16, 64)
FIRST_SECONDS, BETWEEN_SECONDS = 0.1, 0.02
"""The pace of a model; a stream takes 1.3 seconds."""
AT_ONCE, PACED = (0.0, 0.0), (FIRST_SECONDS, BETWEEN_SECONDS)
SETTLE_SECONDS = 0.5
WARM_UP_SECONDS = 3.0
LIGHT, STANDARD, HEAVY = CHAT_MODELS
SERVICE = "openai-api"
DIRECT, PASS_THROUGH, LITELLM, PLATFORM = PARTIES = ("direct", "pass-through", "litellm", "platform")

LIMIT_CPU = 0.3
LIMIT_THROUGHPUT = 3.0
LIMIT_FIRST_TEXT = 0.25
LIMIT_SPREAD = 3.0

_SENTENCE = (
    "The keeper writes down each opening of the relief valve, its pressure and the time, in the ledger of the desk. "
)
PROMPT = (_SENTENCE * 10)[:1000]

VARIABLES = {
    "ENVIRONMENT": "dev",
    "LITELLM_API_KEY": "sk-benchmark",
    "LITELLM_EMBEDDING_MODEL": EMBEDDING_MODEL,
    "EMBEDDING_DIMENSIONS": str(WIDTH),
    "LITELLM_DEFAULT_MODEL": STANDARD,
    "MODEL_LIGHT": LIGHT,
    "MODEL_STANDARD": STANDARD,
    "MODEL_HEAVY": HEAVY,
    "RATE_LIMIT_PER_MINUTE": "100000000",
    "TOKEN_BUDGET_DAILY": "1000000000000",
    "TOKEN_BUDGET_MONTHLY": "1000000000000",
}
"""Limits are checked for every request, and none is reached."""


@dataclass(frozen=True)
class Party:
    """Who is asked, and the processes that serve it, by part."""

    name: str
    url: str
    key: str
    model: str
    processes: Callable[[], Mapping[str, Sequence[int]]]


@dataclass(frozen=True)
class Kind:
    """A kind of request."""

    name: str
    streamed: bool
    pace: tuple[float, float]

    @property
    def ramp_seconds(self) -> float:
        """The time over which the clients begin: that of one paced stream."""
        return 0.3 if self.pace == AT_ONCE else sum((self.pace[0], self.pace[1] * len(TOKENS)))

    def body(self, model_name: str) -> dict[str, Any]:
        """Return the request's body."""
        body: dict[str, Any] = {
            "model": model_name,
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": 128,
        }
        return body | ({"stream": True, "stream_options": {"include_usage": True}} if self.streamed else {})


WHOLE, STREAM, PACED_STREAM = KINDS = (
    Kind("whole", streamed=False, pace=AT_ONCE),
    Kind("stream", streamed=True, pace=AT_ONCE),
    Kind("paced", streamed=True, pace=PACED),
)


@dataclass
class Figures:
    """What was measured of a party for one kind and number of clients, over all rounds; times in seconds."""

    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    first_texts: list[float] = field(default_factory=list)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    """By part."""
    requests: int = 0
    failed: int = 0
    complaints: list[str] = field(default_factory=list)

    def add(self, result: Result, spent: Mapping[str, float]) -> None:
        """Add a block."""
        self.rates.append(result.a_second)
        self.latencies += result.latencies
        self.first_texts += result.first_texts
        self.requests += result.requests
        self.failed += result.failed
        self.complaints += result.failures
        for part, seconds in spent.items():
            self.cpu_seconds[part] = self.cpu_seconds.get(part, 0.0) + seconds

    @property
    def rate(self) -> float:
        """Requests a second, the median of the rounds."""
        return median(self.rates)

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of CPU a request."""
        return 1000 * sum(self.cpu_seconds.values()) / max(1, self.requests)

    @property
    def spread(self) -> float:
        """The latencies' p99 as a multiple of their p50."""
        return quantile(self.latencies, 0.99) / quantile(self.latencies, 0.5)


Table = dict[tuple[str, int, str], Figures]
"""By kind, number of clients and party."""


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile; not a number without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


class Loader:
    """The client process."""

    def __init__(self, upstream_url: str) -> None:
        self._upstream_url = upstream_url
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.load"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def measure(self, party: Party, kind: Kind, clients: int, seconds: float) -> tuple[Result, dict[str, float]]:
        """Run a block at a party; CPU is counted until a while after its last answer."""
        self._set_pace(kind.pace)
        body = kind.body(party.model)
        block = Block(party.url, party.key, body, clients, seconds, kind.ramp_seconds, TEXT, len(TOKENS))
        before = processes.seconds_by_part(party.processes())
        result = self._run(block)
        time.sleep(SETTLE_SECONDS)
        after = processes.seconds_by_part(party.processes())
        return result, {part: after[part] - before[part] for part in before}

    def _run(self, block: Block) -> Result:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(block)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise PartError("the client process ended")
        return Result(**json.loads(line))

    def _set_pace(self, pace: tuple[float, float]) -> None:
        first, between = pace
        body = json.dumps({"first_seconds": first, "between_seconds": between}).encode()
        request = urllib.request.Request(f"{self._upstream_url}/pace", body, method="PUT")  # noqa: S310 - loopback
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()


@contextmanager
def platform(folder: Path, upstream_url: str) -> Iterator[Party]:
    """Run a throw-away stack in front of the model server; all its processes and PostgreSQL's count."""
    environ = {**environment.embedded_only(os.environ), **VARIABLES, "LITELLM_BASE_URL": upstream_url}
    stack = Stack(folder / "state", environ=environ)
    with stack:
        if SERVICE not in stack.urls:
            raise PartError(f"the manifests have no Service {SERVICE}; --target measures another server in its place")
        key = service_key(stack.connections.migration_database_url)

        def processes() -> dict[str, list[int]]:
            return {name: [part.pid] for name, part in stack.processes.items() if part.pid is not None}

        yield Party(PLATFORM, stack.urls[SERVICE], key, STANDARD, processes)


def service_key(url: str) -> str:
    """Return a new API key of a service account of a tenant of its own."""
    with psycopg.connect(with_scheme(url, "postgresql"), autocommit=True, row_factory=scalar_row) as connection:
        seeder = Seeder(connection, "bench-gateway", "Bench")
        seeder.service_account("bench", ["service"])
        return seeder.seed.keys["bench"]


def target(options: argparse.Namespace) -> Party:
    """Return the server that is measured in the place of the platform."""
    return Party(PLATFORM, options.target, options.key, options.model, lambda: {"target": options.pid})


@contextmanager
def parties(folder: Path, options: argparse.Namespace) -> Iterator[tuple[list[Party], Loader]]:
    """Yield the wanted parties, all of them running, and the client."""
    wanted = set(options.only)
    with ExitStack() as stack:
        upstream_url, upstream_pid = stack.enter_context(
            server("upstream", "tests.benchmarks.upstream", folder, port=options.upstream_port)
        )
        found = [Party(DIRECT, upstream_url, "sk-none", STANDARD, lambda: {"upstream": [upstream_pid]})]
        if PASS_THROUGH in wanted:
            thin_url, thin_pid = stack.enter_context(
                server(PASS_THROUGH, "tests.benchmarks.pass_through", folder, UPSTREAM=upstream_url)
            )
            found.append(Party(PASS_THROUGH, thin_url, "sk-none", STANDARD, lambda: {PASS_THROUGH: [thin_pid]}))
        if LITELLM in wanted:
            proxy = stack.enter_context(
                LiteLLM(
                    folder / LITELLM,
                    configuration([model(name, upstream_url) for name in CHAT_MODELS]),
                    workers=options.litellm_workers,
                )
            )
            pid = proxy.process.pid
            assert pid is not None
            found.append(Party(LITELLM, proxy.url, proxy.key, STANDARD, lambda: {LITELLM: [pid]}))
        if PLATFORM in wanted:
            found.append(target(options) if options.target else stack.enter_context(platform(folder, upstream_url)))
        loader = Loader(upstream_url)
        stack.callback(loader.close)
        yield found, loader


def run(options: argparse.Namespace) -> Table:
    """Measure all; everything that was started is ended."""
    kinds = [kind for kind in KINDS if kind.name in options.kinds]
    table: Table = {}
    with (
        tempfile.TemporaryDirectory(prefix="bench-gateway-", ignore_cleanup_errors=True) as folder,
        parties(Path(folder), options) as (found, loader),
    ):
        for party in found:
            for kind in kinds:
                loader.measure(party, kind, max(options.clients), WARM_UP_SECONDS)
        number = 0
        for turn in range(options.rounds):
            for kind in kinds:
                for clients in options.clients:
                    number += 1
                    for party in found[number % len(found) :] + found[: number % len(found)]:
                        measured = loader.measure(party, kind, clients, options.seconds)
                        table.setdefault((kind.name, clients, party.name), Figures()).add(*measured)
            print(f"round {turn + 1} of {options.rounds}; load average {os.getloadavg()[0]:.1f}", flush=True)
    return table


def added_ms(table: Table, kind: str, clients: int, party: str) -> float:
    """Return the milliseconds that a party adds to the first text's median; not a number without streams."""
    own, direct = (quantile(table[kind, clients, name].first_texts, 0.5) for name in (party, DIRECT))
    return 1000 * (own - direct)


def report(table: Table) -> None:
    """Print what was measured, and where the platform's CPU went."""
    print(
        f"\n{'kind':8}{'clients':>7}  {'party':14}{'requests/s':>11}{'p50 ms':>10}{'p99 ms':>10}{'p99/p50':>9}"
        f"{'first p50':>11}{'p99':>9}{'added':>9}{'CPU ms':>9}{'failed':>8}"
    )
    for (kind, clients, party), f in sorted(table.items(), key=_position):
        print(
            f"{kind:8}{clients:7}  {party:14}{f.rate:11.1f}{quantile(f.latencies, 0.5) * 1000:10.2f}"
            f"{quantile(f.latencies, 0.99) * 1000:10.2f}{f.spread:9.2f}{quantile(f.first_texts, 0.5) * 1000:11.2f}"
            f"{quantile(f.first_texts, 0.99) * 1000:9.2f}{added_ms(table, kind, clients, party):9.2f}{f.cpu_ms:9.3f}"
            f"{f.failed:8}"
        )
        for complaint in f.complaints[:1]:
            print(f"    failed: {complaint}")
    for (kind, clients, party), f in sorted(table.items(), key=_position):
        if party == PLATFORM:
            parts = sorted(f.cpu_seconds.items(), key=lambda item: -item[1])
            shown = ", ".join(f"{part} {1000 * s / max(1, f.requests):.2f}" for part, s in parts if s)
            print(f"CPU ms a request of the platform, {kind} at {clients}: {shown}")


def _position(item: tuple[tuple[str, int, str], Figures]) -> tuple[int, int, int]:
    kind, clients, party = item[0]
    return [k.name for k in KINDS].index(kind), clients, PARTIES.index(party)


def verdicts(table: Table) -> list[tuple[bool, str]]:
    """Return the goals that this run could check: whether each is met, and its line."""
    found: list[tuple[bool, str]] = []

    def compare(goal: str, own: float, limit: float, bound: str) -> None:
        met = own <= limit if bound == "at most" else own >= limit
        found.append((met, f"{goal}: {own:.3f} ({bound} {limit})"))

    for (kind, clients, party), own in sorted(table.items(), key=_position):
        if party != PLATFORM:
            continue
        where = f"{kind} at {clients}"
        if clients == max(CLIENTS) and kind != PACED_STREAM.name:
            compare(f"p99 / p50, {where}", own.spread, LIMIT_SPREAD, "at most")
        other = table.get((kind, clients, LITELLM))
        if other is None:
            continue
        if kind != PACED_STREAM.name:
            compare(f"CPU a request / LiteLLM's, {where}", own.cpu_ms / other.cpu_ms, LIMIT_CPU, "at most")
            if clients == CLIENTS[1]:
                compare(f"requests/s / LiteLLM's, {where}", own.rate / other.rate, LIMIT_THROUGHPUT, "at least")
        else:
            ratio = added_ms(table, kind, clients, PLATFORM) / added_ms(table, kind, clients, LITELLM)
            compare(f"added time to first token / LiteLLM's, {where}", ratio, LIMIT_FIRST_TEXT, "at most")
    failed = sum(figures.failed for figures in table.values())
    found.append((failed == 0, f"failures: {failed} (none)"))
    silent = [key for key, figures in table.items() if not figures.latencies]
    found.append((not silent, f"blocks without an answer: {silent or 'none'}"))
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gateway")
    names = [kind.name for kind in KINDS]
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a block (default: 4)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each block is measured (default: 3)")
    parser.add_argument(
        "--only", nargs="+", choices=PARTIES, default=list(PARTIES), help="parties; direct always is one"
    )
    parser.add_argument("--kinds", nargs="+", choices=names, default=names)
    parser.add_argument("--clients", nargs="+", type=int, default=list(CLIENTS))
    parser.add_argument("--litellm-workers", type=int, default=1, help="worker processes of LiteLLM (default: 1)")
    parser.add_argument("--target", help="base URL, without /v1, of a server in the place of the platform")
    parser.add_argument("--key", default="sk-none", help="its API key")
    parser.add_argument("--upstream-port", type=int, help="port of the mock model server (default: a free one)")
    parser.add_argument("--model", default=STANDARD, help="its model, which must answer as the mock model server does")
    parser.add_argument(
        "--pid", nargs="+", type=int, default=[], help="its processes, for the CPU; their children count too"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and compare with the goals."""
    options = parse(arguments)
    # A request to end is an interruption, so that everything that was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        table = run(options)
    except PartError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report(table)
    results = verdicts(table)
    print()
    for met, line in results:
        print(f"{'met   ' if met else 'MISSED'}  {line}")
    return 0 if all(met for met, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
