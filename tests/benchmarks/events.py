"""What an event costs in the database, beside other queues, and how soon it is delivered, beside a bare POST.

Started as `python -m tests.benchmarks.events` (`make bench-events`), on an embedded PostgreSQL that is as durable as a real one
(fsync on). It needs the extra `bench`.

    database   a thousand events emitted in one transaction, claimed and acknowledged; in turns, round by round, on one server:
                 ours           events.emit, events.claim(100), events.acknowledge
                 raw            INSERT of the same events into a table with a primary key and nothing more;
                                SELECT ... FOR UPDATE SKIP LOCKED LIMIT 100 and DELETE in one transaction
                 pgqueuer       Queries.enqueue, dequeue, log_jobs, over asyncpg, 500 at a time: its best
                 procrastinate  batch_defer, then fetch_job and finish_job, four side by side; it takes jobs one by one,
                                and fewer of them, so that a round does not take minutes
    delivery   200 events/s through a relay process to a small HTTP server: from the commit to the arrival. In turns with it, a
               POST of the same headers and body to the same server: from the call to the arrival.

Fails when our claims alone, or the whole way of an event, have less than half of the raw side's throughput, or the whole way
not more than pgqueuer's or less than ten times procrastinate's. An emission of ours is a call for each event that wakes the
relay, the raw one a single INSERT.
"""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import procrastinate
import psycopg
from pgqueuer import Queries
from pgqueuer.domain.types import QueueManagerId
from pgqueuer.ports.repository import EntrypointExecutionParameter
from procrastinate.jobs import Status

from functions.relay.posting import attributes
from infra.local import ports
from tests.benchmarks.budget import one, with_server
from tests.support import TEST_ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from multiprocessing.connection import Connection as Pipe

AT_LEAST_OF_RAW = 0.5
AT_LEAST_OF_PGQUEUER = 1.0
AT_LEAST_OF_PROCRASTINATE = 10.0
EVENTS = 1000
BATCH = 100
PGQUEUER_BATCH = 500
PROCRASTINATE_JOBS = 100
PROCRASTINATE_WORKERS = 4
ROUNDS = 15
WARM_UP = 3
RATE = 200
SECONDS = 5.0
TURNS = 3
SETTLE_SECONDS = 1.0
TYPE = "com.enterprise-agents.inference.requested.v1"
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
RAW = """
CREATE SCHEMA bench;
CREATE TABLE bench.raw (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event uuid NOT NULL DEFAULT gen_random_uuid(), type text NOT NULL,
  tenant_id uuid NOT NULL, subject text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
  extensions jsonb NOT NULL, data jsonb NOT NULL
)
"""


def payload() -> tuple[str, str]:
    """Return extensions and data of an event as a job emits them, as JSON."""
    turn = str(uuid4())
    extensions = {"tier": "standard", "region": "local", "partitionkey": turn, "traceparent": TRACE}
    return json.dumps(extensions), json.dumps({"job_id": str(uuid4()), "turn_id": turn})


EXTENSIONS, DATA = payload()


class Ours:
    """The outbox."""

    def __init__(self, url: str, tenant: UUID) -> None:
        self._connection = psycopg.connect(url, autocommit=True, prepare_threshold=None)
        self._tenant = tenant

    async def emit(self) -> int:
        """Emit in one transaction."""
        self._connection.execute(
            "SELECT events.emit(%s, %s, n::text, %s, %s) FROM generate_series(1, %s) AS n",
            (TYPE, self._tenant, EXTENSIONS, DATA, EVENTS),
        )
        return EVENTS

    async def drain(self) -> int:
        """Claim and acknowledge all."""
        done = 0
        claim = "SELECT seq, id, type, source, subject, created_at::text, extensions::text, data FROM events.claim(%s)"
        while claimed := self._connection.execute(claim, (BATCH,)).fetchall():
            self._connection.execute("SELECT events.acknowledge(%s)", ([row[0] for row in claimed],))
            done += len(claimed)
        return done


class Raw:
    """The least that claims."""

    def __init__(self, url: str, tenant: UUID) -> None:
        self._connection = psycopg.connect(url, autocommit=True, prepare_threshold=None)
        self._connection.execute(RAW)
        self._tenant = tenant

    async def emit(self) -> int:
        """Insert in one transaction."""
        self._connection.execute(
            "INSERT INTO bench.raw (type, tenant_id, subject, extensions, data)"
            " SELECT %s, %s, n::text, %s::jsonb, %s::jsonb FROM generate_series(1, %s) AS n",
            (TYPE, self._tenant, EXTENSIONS, DATA, EVENTS),
        )
        return EVENTS

    async def drain(self) -> int:
        """Claim and delete all, each batch in one transaction that waits for the disk no more than ours does."""
        done = 0
        while True:
            with self._connection.transaction():
                self._connection.execute("SET LOCAL synchronous_commit = off")
                claimed = self._connection.execute(
                    "SELECT id, event, type, tenant_id, subject, created_at::text, extensions::text, data::text FROM bench.raw"
                    " ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED",
                    (BATCH,),
                ).fetchall()
                self._connection.execute("DELETE FROM bench.raw WHERE id = ANY (%s)", ([row[0] for row in claimed],))
            if not claimed:
                return done
            done += len(claimed)


class PgQueuer:
    """pgqueuer."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._payload = (EXTENSIONS + DATA).encode()

    @classmethod
    async def make(cls, url: str) -> PgQueuer:
        """Install its schema with its own tuning of autovacuum."""
        queries = Queries.from_asyncpg_connection(await asyncpg.connect(url))
        await queries.install()
        await queries.optimize_autovacuum()
        return cls(queries)

    async def emit(self) -> int:
        """Enqueue in one call."""
        await self._queries.enqueue(["bench"] * EVENTS, [self._payload] * EVENTS, [0] * EVENTS)
        return EVENTS

    async def drain(self) -> int:
        """Dequeue and log as successful all, which deletes them."""
        done, manager = 0, QueueManagerId(uuid4())
        entrypoints: Any = {"bench": EntrypointExecutionParameter(0)}
        while jobs := await self._queries.dequeue(
            PGQUEUER_BATCH,
            entrypoints,
            manager,
            None,
            timedelta(seconds=30),
        ):
            await self._queries.log_jobs([(job, "successful", None) for job in jobs])
            done += len(jobs)
        return done


class Procrastinate:
    """procrastinate."""

    def __init__(self, app: procrastinate.App, task: Any, worker: int) -> None:
        self._app, self._task, self._worker = app, task, worker

    @classmethod
    async def make(cls, url: str) -> Procrastinate:
        """Apply its schema."""
        logging.getLogger("procrastinate").setLevel(logging.ERROR)
        connector = procrastinate.PsycopgConnector(conninfo=url, min_size=PROCRASTINATE_WORKERS)
        app = procrastinate.App(connector=connector)

        @app.task(name="bench", queue="bench")
        async def bench(**_: str) -> None:
            """Do nothing."""

        await app.open_async()
        await app.schema_manager.apply_schema_async()
        return cls(app, bench, await app.job_manager.register_worker())

    async def emit(self) -> int:
        """Defer in one call."""
        jobs = [{"extensions": EXTENSIONS, "data": DATA}] * PROCRASTINATE_JOBS
        await self._task.batch_defer_async(*jobs)
        return PROCRASTINATE_JOBS

    async def drain(self) -> int:
        """Fetch and finish all, several side by side."""
        return sum(await asyncio.gather(*(self._work() for _ in range(PROCRASTINATE_WORKERS))))

    async def _work(self) -> int:
        done = 0
        while job := await self._app.job_manager.fetch_job(["bench"], self._worker):
            await self._app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
            done += 1
        return done


@dataclass
class Side:
    """One of those compared, and what its rounds took: seconds an event."""

    emit: Callable[[], Awaitable[int]]
    drain: Callable[[], Awaitable[int]]
    emitted: list[float] = field(default_factory=list)
    drained: list[float] = field(default_factory=list)

    async def round(self) -> None:
        """Emit and drain once."""
        began = time.perf_counter()
        emitted = await self.emit()
        between = time.perf_counter()
        drained = await self.drain()
        ended = time.perf_counter()
        if drained != emitted:
            raise RuntimeError(f"{emitted} went in, {drained} came out")
        self.emitted.append((between - began) / emitted)
        self.drained.append((ended - between) / drained)

    def throughput(self) -> float:
        """Return the events a second of the median round, from end to end."""
        return 1 / median(e + d for e, d in zip(self.emitted[WARM_UP:], self.drained[WARM_UP:], strict=True))

    def parts(self) -> tuple[float, float]:
        """Return the events a second emitted, and claimed and acknowledged."""
        return 1 / median(self.emitted[WARM_UP:]), 1 / median(self.drained[WARM_UP:])


async def database_side(url: str, tenant: UUID) -> bool:
    """Print the comparison; return whether the goals are reached."""
    queues: dict[str, Any] = {
        "ours": Ours(url, tenant),
        "raw claim": Raw(url, tenant),
        "pgqueuer": await PgQueuer.make(url),
        "procrastinate": await Procrastinate.make(url),
    }
    sides = {name: Side(queue.emit, queue.drain) for name, queue in queues.items()}
    for _ in range(WARM_UP + ROUNDS):
        for side in sides.values():
            await side.round()
    for name, side in sides.items():
        emitted, drained = side.parts()
        print(
            f"{name:14} {side.throughput():8.0f} events/s   emitted alone {emitted:8.0f}/s"
            f"   claimed and acknowledged alone {drained:8.0f}/s"
        )
    claiming = {name: side.parts()[1] for name, side in sides.items()}
    whole = {name: side.throughput() for name, side in sides.items()}
    goals = (
        ("claims", claiming, "raw claim", AT_LEAST_OF_RAW),
        ("whole", whole, "raw claim", AT_LEAST_OF_RAW),
        ("whole", whole, "pgqueuer", AT_LEAST_OF_PGQUEUER),
        ("whole", whole, "procrastinate", AT_LEAST_OF_PROCRASTINATE),
    )
    reached = True
    for what, figures, name, least in goals:
        ratio = figures["ours"] / figures[name]
        print(f"{what} of ours / {name:14} {ratio:7.2f} (at least {least:g})")
        reached = reached and ratio >= least
    return reached


def serve(port: int, pipe: Pipe) -> None:
    """Take events; on a word through the pipe, send back when each id arrived, in seconds since 1970."""
    arrivals: dict[str, float] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                now = time.time()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                await reader.readexactly(int(headers["content-length"]))
                arrivals.setdefault(headers["ce-id"], now)
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", port)
        async with server:
            pipe.send("ready")
            while await asyncio.to_thread(pipe.recv) != "end":
                pipe.send(dict(arrivals))

    asyncio.run(run())


class Sink:
    """A small HTTP server in a process of its own."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        port = ports.free(["sink"])["sink"]
        self.url = f"http://127.0.0.1:{port}/"
        self._process = context.Process(target=serve, args=(port, theirs), daemon=True)
        self._process.start()
        self._pipe.recv()

    def arrivals(self) -> dict[str, float]:
        """Return when each event arrived."""
        self._pipe.send("tell")
        arrived: dict[str, float] = self._pipe.recv()
        return arrived

    def stop(self) -> None:
        """End the process."""
        self._pipe.send("end")
        self._process.join()


async def at_rate(step: Callable[[], Coroutine[Any, Any, tuple[str, float]]]) -> dict[str, float]:
    """Do a step RATE times a second, however long one takes; return the moment that each told, by id."""
    moments: dict[str, float] = {}
    tasks: list[asyncio.Task[tuple[str, float]]] = []
    began = time.perf_counter()
    for number in range(int(RATE * SECONDS)):
        await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        tasks.append(asyncio.create_task(step()))
    for task in tasks:
        id_, moment = await task
        moments[id_] = moment
    return moments


async def delivery_side(url: str, tenant: UUID, sink: Sink) -> None:
    """Print how soon events arrive through the relay, and by a bare POST."""
    began: dict[str, dict[str, float]] = {"relay": {}, "bare POST": {}}
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None)
    async with connection, aiohttp.ClientSession() as session:

        async def emit() -> tuple[str, float]:
            cursor = await connection.execute(
                "SELECT events.emit(%s, %s, 'bench', %s, %s)", (TYPE, tenant, EXTENSIONS, DATA)
            )
            [id_] = await cursor.fetchone() or (None,)
            return str(id_), time.time()

        async def post() -> tuple[str, float]:
            id_ = str(uuid4())
            event = {
                "id": id_,
                "source": f"/tenants/{tenant}",
                "type": TYPE,
                "subject": "bench",
                "created_at": datetime.now(UTC),
                "extensions": json.loads(EXTENSIONS) | {"tenantid": str(tenant)},
            }
            moment = time.time()
            async with session.post(sink.url, data=DATA.encode(), headers=attributes(event, {})):
                return id_, moment

        for turn in range(TURNS + 1):
            for name, step in (("relay", emit), ("bare POST", post)):
                moments = await at_rate(step)
                if turn:  # the first is for warming up
                    began[name] |= moments
        # The last of the warm ones may be under way; a relay that has lost one would be waited for in vain.
        await asyncio.sleep(SETTLE_SECONDS)
    arrived = sink.arrivals()
    tails = {}
    for name, moments in began.items():
        seconds = [arrived[id_] - moment for id_, moment in moments.items()]
        tails[name] = quantiles(seconds, n=100)[98]
        print(
            f"{name:10} {len(seconds)} events at {RATE}/s   p50 {median(seconds) * 1000:6.2f} ms"
            f"   p99 {tails[name] * 1000:6.2f} ms"
        )
    print(f"p99 from commit to delivery / p99 of a bare POST {tails['relay'] / tails['bare POST']:.1f}")


def run(url: str) -> int:
    """Measure all; return the exit status."""
    with psycopg.connect(url, autocommit=True) as connection:
        [made] = one(connection, "SELECT core.provision_tenant('bench', 'Bench')")
        connection.execute("ALTER ROLE relay PASSWORD 'bench'")
    tenant = UUID(str(made))
    reached = asyncio.run(database_side(url, tenant))
    sink = Sink()
    parts = urlsplit(url)
    variables = {
        "DATABASE_URL": parts._replace(netloc=f"relay:bench@{parts.hostname}:{parts.port}").geturl(),
        "K_SINK": sink.url,
    }
    relay = subprocess.Popen(
        [sys.executable, "-m", "functions.relay.main"],
        env=os.environ | TEST_ENVIRONMENT | variables,
        stderr=subprocess.DEVNULL,
    )
    try:
        asyncio.run(delivery_side(url, tenant, sink))
    finally:
        relay.terminate()
        relay.wait()
        sink.stop()
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(with_server(run))
