"""How quickly documents are ingested, beside what the embedding endpoint alone takes and beside LangChain.

Started as `python -m tests.benchmarks.ingest` (`make bench-ingest`, which installs LangChain). Each round makes new files
(corpus.py: Markdown, text, HTML, DOCX, CSV, PDF) with which each party has to do:

    platform        uploads over HTTP, four at a time, to the local stack, which is as durable as a real one (fsync on), until
                    every document is indexed: what a search sees, by vector and by text
    floor           the texts that the platform has just embedded, posted to the endpoint by a bare client that does nothing
                    with the answers: as many texts a request and as many requests at a time as the platform's
    pgvector        LangChain's loaders, its splitter and PGVector.add_documents, in one thread, in the same PostgreSQL server
                    (tests/langchain/pipeline.py says what it does); it builds no index
    pgvectorstore   the same with PGVectorStore
    four threads    the same with PGVector in four threads, each with its share of the files: not from its documentation, but
                    what somebody in a hurry writes
    again           the platform, with a part of each file's text changed: what is embedded already is not embedded again
    index           LangChain's indexing API, which has the same purpose, with the files as they were
    index again     and with them changed

All of it is done with each of two endpoints:

    elsewhere       replicas behind one address (embedder.py), each as quick as a core of the model server below, on machines of
                    their own: the endpoint is busy only when it gets requests side by side
    here            the local model server: real embeddings by MiniLM, on the same cores as everything else. There one request
                    occupies it wholly, so nobody can be quicker than the floor, LangChain included, and whatever the platform
                    does besides comes on top

Goals. The platform takes at most 1.3 times the floor's time, at both endpoints, and has at least 3 times the documents/s of the
quicker of LangChain's two stores at the endpoint elsewhere. Every document is indexed. Exit status 1 when one is missed.

Printed beside them, and no goals: the same ratio at the endpoint here, where every party waits for the same two cores, and
the ratio to LangChain in four threads, which ask side by side as the platform does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import aiohttp
import psycopg

from functions.embedding.queue import BATCH_CHUNKS
from infra.local import environment, provision
from infra.local.client import ApiError, PlatformClient
from infra.local.model_server.files import model_directory
from infra.local.model_server.protocol import EMBEDDING_MODEL
from infra.local.ports import MODEL_SERVER, POSTGRES
from infra.local.postgres import EmbeddedPostgres
from infra.local.process import PartError
from infra.local.stack import Stack
from shared.settings import with_scheme
from tests.benchmarks import embedder, processes
from tests.benchmarks.corpus import File, corpus
from tests.servers import ROOT, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

LANGCHAIN_PYTHON = ROOT / ".venv-langchain" / "bin" / "python"
LANGCHAIN_DATABASE = "langchain"
CHUNK_CHARACTERS, OVERLAP_CHARACTERS = 750, 125
"""LangChain counts characters: about as many as a passage of the platform has."""
UPLOADS_AT_ONCE = 4
REQUESTS_AT_ONCE = 4
CHANGED = 0.05
PACE = embedder.Pace(replicas=4, tokens_a_second=3000.0, request_seconds=0.01)
SETTLE_SECONDS = 1.0
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 1800.0
WARM_UP_FILES = 10

ELSEWHERE, HERE = ENDPOINTS = ("elsewhere", "here")
PLATFORM, FLOOR, AGAIN = "platform", "floor", "again"
PGVECTOR, PGVECTORSTORE, THREADS, INDEX, INDEX_AGAIN = LANGCHAIN = (
    "pgvector",
    "pgvectorstore",
    "four threads",
    "index",
    "index again",
)
PARTIES = (PLATFORM, FLOOR, *LANGCHAIN[:3], AGAIN, *LANGCHAIN[3:])

LIMIT_FLOOR = 1.3
LEAST_FLOOR = 0.9
"""Nobody is quicker than the floor: below this something else has held the floor up, and the run shows nothing."""
LIMIT_LANGCHAIN = 3.0

VARIABLES = {
    "ENVIRONMENT": "dev",
    "LITELLM_API_KEY": "sk-benchmark",
    "RATE_LIMIT_PER_MINUTE": "100000000",
    "TOKEN_BUDGET_DAILY": "1000000000000",
    "TOKEN_BUDGET_MONTHLY": "1000000000000",
}
KEY = VARIABLES["LITELLM_API_KEY"]
MODELS_ELSEWHERE = {
    "LITELLM_EMBEDDING_MODEL": embedder.MODEL,
    "EMBEDDING_DIMENSIONS": str(embedder.WIDTH),
    "CHUNK_SIZE_TOKENS": "192",
    "CHUNK_OVERLAP_TOKENS": "32",
    "EMBEDDING_TOKENIZER": str(model_directory() / "tokenizer.json"),
    "LITELLM_DEFAULT_MODEL": "none/standard",
    "MODEL_LIGHT": "none/light",
    "MODEL_STANDARD": "none/standard",
    "MODEL_HEAVY": "none/heavy",
}
EMBEDDED_TEXTS = """
SELECT rag.embedded_text(d.title, d.name, c.heading, c.content)
FROM rag.documents AS d JOIN rag.chunks AS c ON c.tenant_id = d.tenant_id AND c.document_id = d.id AND c.live
WHERE d.name LIKE %s ORDER BY d.created_at, d.id, c.ordinal
"""
PROGRESS = """
SELECT count(*) FILTER (WHERE d.status IN ('indexed', 'failed')), sum(d.chunks_total),
  count(*) FILTER (WHERE d.status = 'failed' OR d.chunks_failed > 0), max(d.error_code)
FROM rag.documents AS d WHERE d.name LIKE %s
"""


@dataclass(frozen=True)
class Run:
    """What a party did with a round's files."""

    seconds: float
    documents: int
    chunks: int
    characters: int
    """Of all chunks."""
    failed: int = 0
    steps: Mapping[str, float] = field(default_factory=dict)
    """Seconds of LangChain's steps."""
    cpu: Mapping[str, float] = field(default_factory=dict)
    """Seconds of CPU by part, also in the second after the end."""


Rounds = list[dict[str, Run]]
"""For each round, what the parties did, by name."""


class LangChain:
    """LangChain's process."""

    def __init__(self, endpoint: str, model: str, database: str) -> None:
        if not LANGCHAIN_PYTHON.exists():
            raise PartError("LangChain is not installed: make install-langchain")
        options = {
            "endpoint": f"{endpoint}/v1",
            "model": model,
            "key": KEY,
            "database": with_scheme(database, "postgresql+psycopg"),
            "width": embedder.WIDTH,
            "chunk-size": CHUNK_CHARACTERS,
            "chunk-overlap": OVERLAP_CHARACTERS,
        }
        arguments = [argument for name, value in options.items() for argument in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            [LANGCHAIN_PYTHON, ROOT / "tests" / "langchain" / "pipeline.py", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._read()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def run(self, folder: Path, how: str) -> dict[str, Any]:
        """Let it ingest a folder; return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"folder": str(folder), "how": how}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._read())
        return answer

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PartError("LangChain's process ended; what it said stands above")
        return line


class Bench:
    """The parties at one endpoint, all of them running."""

    def __init__(self, stack: Stack, langchain: LangChain, endpoint: tuple[str, str, int], folder: Path) -> None:
        self._stack = stack
        self._langchain = langchain
        self._endpoint, self._model, self._endpoint_pid = endpoint
        self._folder = folder
        url = with_scheme(stack.connections.migration_database_url, "postgresql")
        self._database = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def warm_up(self, count: int, wanted: Sequence[str]) -> None:
        """Let the parties read some files first."""
        self.round("warm-up", min(WARM_UP_FILES, count), wanted, 0)

    def round(self, seed: str, count: int, wanted: Sequence[str], number: int) -> dict[str, Run]:
        """Let the parties ingest new files, in an order that moves on; return what they did."""
        files, changed = corpus(seed, count), corpus(seed, count, changed=CHANGED)
        own = [name for name in (PLATFORM, FLOOR, AGAIN) if name in wanted]
        # Each of the three needs what the one before has left.
        others = [(name,) for name in LANGCHAIN[:3] if name in wanted]
        pairs = [tuple(name for name in LANGCHAIN[3:] if name in wanted)]
        groups = [tuple(own), *others, *pairs]
        order = groups[number % len(groups) :] + groups[: number % len(groups)]
        done: dict[str, Run] = {}
        for name in (name for group in order for name in group):
            done[name] = self._measured(name, files, changed, f"{seed}-%")
        return done

    def _folder_of(self, files: Sequence[File]) -> Path:
        """Return the folder with the files, always the same one: where a file is belongs to what LangChain compares."""
        folder = self._folder / "files"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file in files:
            (folder / file.name).write_bytes(file.content)
        return folder

    def _measured(self, name: str, files: Sequence[File], changed: Sequence[File], pattern: str) -> Run:
        wanted = changed if name in (AGAIN, INDEX_AGAIN) else files
        folder = self._folder_of(wanted)
        parts = self._parts()
        before, client = processes.seconds_by_part(parts), time.process_time()
        if name in LANGCHAIN:
            run = self._run_langchain(folder, name, len(files))
        elif name == FLOOR:
            run = asyncio.run(self._post_texts(len(files), pattern))
        else:
            run = asyncio.run(self._ingest(wanted, pattern))
        time.sleep(SETTLE_SECONDS)
        after = processes.seconds_by_part(parts)
        cpu = {part: after[part] - before[part] for part in before} | {"client": time.process_time() - client}
        return Run(run.seconds, run.documents, run.chunks, run.characters, run.failed, run.steps, cpu)

    def _parts(self) -> dict[str, list[int]]:
        parts = {name: [part.pid] for name, part in self._stack.processes.items() if part.pid is not None}
        parts.pop(MODEL_SERVER, None)
        return {**parts, "endpoint": [self._endpoint_pid], "langchain": [self._langchain.pid]}

    def _run_langchain(self, folder: Path, name: str, documents: int) -> Run:
        answer = self._langchain.run(folder, INDEX if name == INDEX_AGAIN else name)
        steps = answer["steps"]
        return Run(sum(steps.values()), documents, answer["chunks"], answer["characters"], steps=steps)

    async def _ingest(self, files: Sequence[File], pattern: str) -> Run:
        """Upload files and wait until all are indexed."""
        gate = asyncio.Semaphore(UPLOADS_AT_ONCE)
        async with aiohttp.ClientSession() as session:
            client = PlatformClient(session, self._stack.urls, self._stack.token)

            async def upload(file: File) -> None:
                async with gate:
                    await client.upload(file.name, file.content, file.media_type)

            began = time.perf_counter()
            await asyncio.gather(*map(upload, files))
            ended, chunks, failed = 0, 0, 0
            while ended < len(files):
                await asyncio.sleep(POLL_SECONDS)
                row = self._database.execute(PROGRESS, [pattern]).fetchone()
                assert row is not None
                ended, chunks, failed, code = row
                if time.perf_counter() - began > PATIENCE_SECONDS:
                    raise PartError(f"{len(files) - ended} documents are not indexed yet; giving up")
            seconds = time.perf_counter() - began
        if failed:
            print(f"{failed} documents failed: {code}", file=sys.stderr)
        return Run(seconds, len(files), int(chunks), sum(map(len, self._texts(pattern))), failed)

    def _texts(self, pattern: str) -> list[str]:
        return [text for (text,) in self._database.execute(EMBEDDED_TEXTS, [pattern])]

    async def _post_texts(self, documents: int, pattern: str) -> Run:
        """Post what the platform has embedded of these documents."""
        texts = self._texts(pattern)
        bodies = [
            json.dumps({"model": self._model, "input": texts[at : at + BATCH_CHUNKS], "encoding_format": "float"})
            for at in range(0, len(texts), BATCH_CHUNKS)
        ]
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        waiting = iter(bodies)
        async with aiohttp.ClientSession(headers=headers) as session:

            async def lane() -> None:
                for body in waiting:
                    async with session.post(f"{self._endpoint}/v1/embeddings", data=body) as response:
                        response.raise_for_status()
                        await response.read()

            began = time.perf_counter()
            await asyncio.gather(*(lane() for _ in range(REQUESTS_AT_ONCE)))
            seconds = time.perf_counter() - began
        return Run(seconds, documents, len(texts), sum(map(len, texts)))


@contextmanager
def bench(endpoint: str, folder: Path) -> Iterator[Bench]:
    """Yield the parties at an endpoint; everything that was started is ended."""
    with ExitStack() as ends:
        environ = {**environment.embedded_only(os.environ), **VARIABLES}
        environ.pop("LITELLM_BASE_URL", None)
        if endpoint == ELSEWHERE:
            url, pid = ends.enter_context(
                server("embedder", "tests.benchmarks.embedder", folder, port=None, **PACE.environment())
            )
            environ |= {**MODELS_ELSEWHERE, "LITELLM_BASE_URL": url}
        stack = ends.enter_context(Stack(folder / "state", environ=environ))
        if endpoint == HERE:
            url, own = stack.urls[MODEL_SERVER], stack.processes[MODEL_SERVER].pid
            assert own is not None
            pid = own
        model = embedder.MODEL if endpoint == ELSEWHERE else EMBEDDING_MODEL
        postgres = stack.processes[POSTGRES]
        assert isinstance(postgres, EmbeddedPostgres)
        provision.create_database(postgres.superuser_url, LANGCHAIN_DATABASE)
        langchain = LangChain(url, model, postgres.url(LANGCHAIN_DATABASE))
        ends.callback(langchain.close)
        parties = Bench(stack, langchain, (url, model, pid), folder)
        ends.callback(parties.close)
        yield parties


def run(endpoint: str, options: argparse.Namespace) -> Rounds:
    """Measure all parties at an endpoint."""
    rounds: Rounds = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-ingest-", ignore_cleanup_errors=True) as folder,
        bench(endpoint, Path(folder)) as parties,
    ):
        parties.warm_up(options.files, options.parties)
        for number in range(options.rounds):
            rounds.append(parties.round(f"round{number + 1}", options.files, options.parties, number))
            load = os.getloadavg()[0]
            print(f"endpoint {endpoint}: round {number + 1} of {options.rounds}; load average {load:.1f}", flush=True)
    return rounds


def middle(rounds: Rounds, name: str, value: Callable[[Run], float]) -> float:
    """Return the median of a party's rounds."""
    return median(value(done[name]) for done in rounds)


def ratio(rounds: Rounds, one: str, other: str, value: Callable[[Run], float]) -> float:
    """Return the median of the rounds' ratios."""
    return median(value(done[one]) / value(done[other]) for done in rounds)


def seconds(run: Run) -> float:
    """Return a run's wall-clock time."""
    return run.seconds


def cpu_seconds(run: Run) -> float:
    """Return a run's CPU time, of all parts."""
    return sum(run.cpu.values())


def report(endpoint: str, rounds: Rounds) -> None:
    """Print what was measured, and where the CPU went."""
    first = rounds[0]
    print(
        f"\nendpoint {endpoint}: medians of {len(rounds)} rounds, {first[next(iter(first))].documents} files each\n"
        f"{'party':15}{'seconds':>9}{'documents/s':>13}{'chunks':>8}{'chunks/s':>10}{'chars/chunk':>13}"
        f"{'CPU s':>8}{'of it endpoint':>16}{'CPU ms/chunk besides':>22}{'failed':>8}"
    )
    for name in (name for name in PARTIES if name in first):
        besides = middle(rounds, name, lambda r: 1000 * (cpu_seconds(r) - r.cpu["endpoint"]) / r.chunks)
        print(
            f"{name:15}{middle(rounds, name, seconds):9.2f}"
            f"{middle(rounds, name, lambda r: r.documents / r.seconds):13.2f}"
            f"{middle(rounds, name, lambda r: r.chunks):8.0f}{middle(rounds, name, lambda r: r.chunks / r.seconds):10.1f}"
            f"{middle(rounds, name, lambda r: r.characters / r.chunks):13.0f}{middle(rounds, name, cpu_seconds):8.2f}"
            f"{middle(rounds, name, lambda r: r.cpu['endpoint']):16.2f}{besides:22.2f}"
            f"{sum(done[name].failed for done in rounds):8}"
        )
    for name in (name for name in PARTIES if name in first and name != FLOOR):
        parts = {part: middle(rounds, name, lambda r, part=part: r.cpu[part]) for part in first[name].cpu}  # type: ignore[misc]
        shown = ", ".join(
            f"{part} {s:.2f}" for part, s in sorted(parts.items(), key=lambda item: -item[1]) if s >= 0.01
        )
        print(f"CPU seconds of {name}: {shown}")
        if first[name].steps:
            steps = {step: middle(rounds, name, lambda r, step=step: r.steps[step]) for step in first[name].steps}  # type: ignore[misc]
            print(f"    seconds of its steps: {', '.join(f'{step} {s:.2f}' for step, s in steps.items())}")
    if PLATFORM in first and FLOOR in first:
        print(
            f"platform / floor: time {ratio(rounds, PLATFORM, FLOOR, seconds):.2f}, "
            f"CPU {ratio(rounds, PLATFORM, FLOOR, cpu_seconds):.2f}"
        )
    for name in (name for name in LANGCHAIN[:4] if name in first and PLATFORM in first):
        print(f"documents/s of the platform / {name}: {ratio(rounds, name, PLATFORM, seconds):.2f}")
    if AGAIN in first and INDEX_AGAIN in first:
        print(f"documents/s of the platform / index, files changed: {ratio(rounds, INDEX_AGAIN, AGAIN, seconds):.2f}")


def verdicts(measured: Mapping[str, Rounds]) -> list[tuple[bool, str]]:
    """Return the goals that this run could check: whether each is met, and its line."""
    found: list[tuple[bool, str]] = []
    for endpoint, rounds in measured.items():
        names = rounds[0].keys()
        if {PLATFORM, FLOOR} <= names:
            own = ratio(rounds, PLATFORM, FLOOR, seconds)
            line = f"time / floor's, {endpoint}: {own:.2f} ({LEAST_FLOOR} to {LIMIT_FLOOR})"
            found.append((LEAST_FLOOR <= own <= LIMIT_FLOOR, line))
        stores = [name for name in (PGVECTOR, PGVECTORSTORE) if name in names]
        if endpoint == ELSEWHERE and PLATFORM in names and stores:
            own = min(ratio(rounds, name, PLATFORM, seconds) for name in stores)
            line = f"documents/s / LangChain's, {endpoint}: {own:.2f} (at least {LIMIT_LANGCHAIN})"
            found.append((own >= LIMIT_LANGCHAIN, line))
        failed = sum(done[name].failed for done in rounds for name in names)
        found.append((failed == 0, f"documents that failed, {endpoint}: {failed} (none)"))
    return found


def asides(measured: Mapping[str, Rounds]) -> list[str]:
    """Return what the goals leave out, and why."""
    found = []
    for endpoint, rounds in measured.items():
        names = rounds[0].keys()
        stores = [name for name in (PGVECTOR, PGVECTORSTORE) if name in names]
        if endpoint == HERE and PLATFORM in names and stores:
            own = min(ratio(rounds, name, PLATFORM, seconds) for name in stores)
            found.append(
                f"documents/s / LangChain's, {endpoint}: {own:.2f}; one request occupies this endpoint: all wait for it"
            )
        if {PLATFORM, THREADS} <= names:
            own = ratio(rounds, THREADS, PLATFORM, seconds)
            found.append(f"documents/s / LangChain's in four threads, {endpoint}: {own:.2f}; it asks side by side too")
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ingest")
    parser.add_argument("--files", type=int, default=60, help="of a round (default: 60)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--endpoints", nargs="+", choices=ENDPOINTS, default=list(ENDPOINTS))
    parser.add_argument("--parties", nargs="+", choices=PARTIES, default=list(PARTIES))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and compare with the goals."""
    options = parse(arguments)
    # A request to end is an interruption, so that everything that was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        measured = {endpoint: run(endpoint, options) for endpoint in options.endpoints}
    except (PartError, ApiError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for endpoint, rounds in measured.items():
        report(endpoint, rounds)
    results = verdicts(measured)
    print()
    for met, line in results:
        print(f"{'met   ' if met else 'MISSED'}  {line}")
    for line in asides(measured):
        print(f"no goal {line}")
    return 0 if all(met for met, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
