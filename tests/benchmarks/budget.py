"""What a budget costs: reserving and settling beside a bare UPDATE of one row, and one busy tenant beside eight.

Started as `python -m tests.benchmarks.budget` (`make bench-budget`), on an embedded PostgreSQL that is as durable as a real one
(fsync on). Everything is measured in the same run:

    uncontended   one connection: budget.reserve and budget.settle, beside a bare UPDATE of one row by its key. Both in one
                  transaction beside one UPDATE, and each in a transaction of its own, released early as the functions do it
                  (shared/database.py), beside two UPDATEs.
    contended     eight processes that reserve and settle for one tenant, beside eight that do so for a tenant each; and the
                  naive way, a transaction that updates one row and commits, on one row beside eight rows.

Fails when reserve + settle take more than 2.5 times the UPDATE, or one tenant has less than half the throughput of eight.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg

from infra.local import environment, manifests, ports, provision
from infra.local.assembly import MANIFESTS, assemble, parts
from infra.local.state import StateDir
from shared.connection import COMMIT_EARLY, WAIT_FOR_DISK

LIMIT_UNCONTENDED = 2.5
LIMIT_CONTENDED = 0.5
CLIENTS = 8
SECONDS = 4.0
ROUNDS = 400
WARM_UP = 50
LIMIT_TOKENS = 10**15
ACT_FOR = "SELECT set_config('app.tenant_id', %s, false), set_config('app.user_id', %s, false)"
RESERVE = "SELECT budget.reserve(%s, 700, 300)"
SETTLE = "SELECT budget.settle(%s, 500, 100)"
BARE = "UPDATE bench.hot SET value = value + 1 WHERE id = %s"

if TYPE_CHECKING:
    from collections.abc import Callable

Connection = psycopg.Connection[tuple[object, ...]]


class Holder:
    """A tenant with a user, as one client acts for them."""

    def __init__(self, tenant: UUID, user: UUID) -> None:
        self.tenant, self.user = str(tenant), str(user)

    def enter(self, connection: Connection) -> None:
        """Let the session act for them; what the door costs is measured by bench-auth."""
        connection.execute(ACT_FOR, (self.tenant, self.user))

    def pair_in_one(self, connection: Connection) -> None:
        """Reserve and settle in one transaction."""
        turn = uuid4()
        with connection.pipeline():
            connection.execute(RESERVE, (turn,))
            connection.execute(SETTLE, (turn,))

    def pair_apart(self, connection: Connection) -> None:
        """Reserve, and settle later, each committed with its locks released early."""
        turn = uuid4()
        for statement in (RESERVE, SETTLE):
            with connection.pipeline():
                connection.execute(f"SELECT {COMMIT_EARLY}")
                connection.execute(statement, (turn,))
            connection.execute(WAIT_FOR_DISK)


def prepare(url: str) -> list[Holder]:
    """Make the tenants, and the table of the bare UPDATE."""
    holders = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA bench")
        connection.execute(
            "CREATE TABLE bench.hot (id integer PRIMARY KEY, value bigint NOT NULL) WITH (fillfactor = 50)"
        )
        connection.execute("INSERT INTO bench.hot SELECT n, 0 FROM generate_series(1, %s) AS n", (CLIENTS,))
        for number in range(CLIENTS):
            [tenant] = one(connection, "SELECT core.provision_tenant(%s, 'Bench')", f"bench-{number}")
            [user] = one(
                connection, "INSERT INTO core.users (tenant_id, subject) VALUES (%s, 'u') RETURNING id", tenant
            )
            connection.execute(
                "INSERT INTO budget.limits (tenant_id, scope, holder_id, period, tokens)"
                " SELECT %(t)s, 'tenant', %(t)s, p, %(n)s FROM unnest(ARRAY['day', 'month']) AS p",
                {"t": tenant, "n": LIMIT_TOKENS},
            )
            holders.append(Holder(UUID(str(tenant)), UUID(str(user))))
        connection.execute("SELECT budget.maintain()")
    return holders


def one(connection: Connection, statement: str, *arguments: object) -> tuple[object, ...]:
    """Return the one row of a statement."""
    row = connection.execute(statement, arguments).fetchone()
    if row is None:
        raise RuntimeError(f"no row: {statement}")
    return row


def connect(url: str) -> Connection:
    """Connect as the functions do."""
    return psycopg.connect(url, autocommit=True, prepare_threshold=None)


def uncontended(url: str, holder: Holder) -> float:
    """Print both comparisons; return the worse ratio."""

    def bare(connection: Connection) -> None:
        connection.execute(BARE, (1,))

    def bare_twice(connection: Connection) -> None:
        bare(connection)
        bare(connection)

    pairs = (
        ("reserve + settle, one transaction", holder.pair_in_one, bare, "one bare UPDATE"),
        ("reserve, settle, each committed", holder.pair_apart, bare_twice, "two bare UPDATEs"),
    )
    worst = 0.0
    with connect(url) as connection:
        holder.enter(connection)
        for name, step, floor, floor_name in pairs:
            taken, least = [], []
            for number in range(WARM_UP + ROUNDS):
                began = time.perf_counter()
                step(connection)
                between = time.perf_counter()
                floor(connection)
                ended = time.perf_counter()
                if number >= WARM_UP:
                    taken.append(between - began)
                    least.append(ended - between)
            ratio = median(taken) / median(least)
            worst = max(worst, ratio)
            print(
                f"{name:36} {median(taken) * 1000:7.3f} ms   {floor_name:16} {median(least) * 1000:7.3f} ms"
                f"   ratio {ratio:5.2f} (at most {LIMIT_UNCONTENDED})"
            )
    return worst


def client(url: str, work: str, holder: Holder, row: int, start: float, counts: multiprocessing.Queue[int]) -> None:
    """Do one kind of work until the time is over; put how often."""
    done = 0
    with connect(url) as connection:
        holder.enter(connection)
        time.sleep(max(0.0, start - time.time()))
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if work == "pair":
                holder.pair_apart(connection)
            else:
                connection.execute(BARE, (row,))
            done += 1
    counts.put(done)


def throughput(url: str, work: str, holders: list[Holder], *, same: bool) -> float:
    """Return how many a second all clients together do."""
    context = multiprocessing.get_context("spawn")
    counts: multiprocessing.Queue[int] = context.Queue()
    start = time.time() + 2.0
    clients = [
        context.Process(target=client, args=(url, work, holders[0 if same else n], 1 if same else n + 1, start, counts))
        for n in range(CLIENTS)
    ]
    for process in clients:
        process.start()
    total = sum(counts.get(timeout=SECONDS + 60) for _ in clients)
    for process in clients:
        process.join()
    return total / SECONDS


def contended(url: str, holders: list[Holder]) -> float:
    """Print both comparisons; return the ratio of the budget's."""
    ratios = {}
    for work, name, unit in (("pair", "reserve + settle", "tenant"), ("bare", "naive: one row, one commit", "row")):
        together, apart = (throughput(url, work, holders, same=same) for same in (True, False))
        ratios[work] = together / apart
        print(
            f"{name:36} {CLIENTS} on one {unit} {together:7.0f}/s   {CLIENTS} on eight {apart:7.0f}/s"
            f"   ratio {ratios[work]:5.2f}" + (f" (at least {LIMIT_CONTENDED})" if work == "pair" else "")
        )
    return ratios["pair"]


def verify(url: str) -> None:
    """Raise RuntimeError unless every balance is what its ledger says, and within its limit."""
    with connect(url) as connection:
        if connection.execute("SELECT * FROM budget.verify()").fetchall():
            raise RuntimeError("balances differ from the ledger")


def with_server(measure: Callable[[str], int]) -> int:
    """Run on a durable server of its own; the rest of the platform is not started."""
    with tempfile.TemporaryDirectory(prefix="bench-budget-", ignore_cleanup_errors=True) as folder:
        state = StateDir(Path(folder) / "state")
        state.create()
        services = manifests.load(MANIFESTS)
        numbers = ports.free(parts(services, frozenset()))
        environ = environment.embedded_only(os.environ)
        assembly = assemble(services, state, numbers, environ, postgres_settings={"fsync": "on"})
        if assembly.postgres is None:
            raise RuntimeError("the benchmark runs on an embedded server")
        with assembly.postgres as server:
            provision.create_database(server.superuser_url, environment.DATABASE)
            assembly.migration.start()
            try:
                if assembly.migration.wait(120) != 0:
                    raise RuntimeError(assembly.migration.log_tail())
            finally:
                assembly.migration.stop()
            return measure(server.url(environment.DATABASE))


def run(url: str) -> int:
    """Measure all; return the exit status."""
    holders = prepare(url)
    worst = uncontended(url, holders[0])
    ratio = contended(url, holders)
    verify(url)
    print("every balance equals its ledger")
    return 0 if worst <= LIMIT_UNCONTENDED and ratio >= LIMIT_CONTENDED else 1


if __name__ == "__main__":
    sys.exit(with_server(run))
