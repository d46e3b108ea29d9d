"""A started stack as its operator sees it: processes to kill, the database, and the logs when something is late."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import scalar_row

from infra.local.assembly import ROOT
from infra.local.ports import POSTGRES
from infra.local.readiness import answers, health_path
from infra.local.stack import Stack, silent
from infra.seed import Seeder
from tests.functions.leaks import leaks, passwords

PATIENCE_SECONDS = 30.0
"""Far more than anything here takes; what is not there by then does not come."""
POLL_SECONDS = 0.05
TAIL_LINES = 15

LARGE_DOCUMENT_BYTES = 200_000

VARIABLES = {
    "ENVIRONMENT": "test",
    "LOCAL_PING_SECONDS": "1",
    "LOCAL_JOB_BACKOFF_SECONDS": "0.2",
    "LARGE_DOCUMENT_BYTES": str(LARGE_DOCUMENT_BYTES),
    "JOB_LEASE_SECONDS": "3",
    "MODEL_TOKENS_PER_SECOND": "75",
    "RATE_LIMIT_PER_MINUTE": "100000",
    "STREAM_HEARTBEAT_SECONDS": "1",
}
"""Quick to find what died, and slow enough in its answers that something can die in the middle of one."""


def leaking(folder: Path, secrets: Collection[str]) -> dict[str, set[str]]:
    """Return the logs of a folder that hold secrets, each with the kinds of them."""
    found = {log.name: leaks(log.read_text(errors="replace"), secrets) for log in folder.iterdir() if log.is_file()}
    return {name: kinds for name, kinds in found.items() if kinds}


@dataclass
class Platform:
    """A throw-away stack."""

    stack: Stack
    issued: set[str] = field(default_factory=set)
    """The tokens and keys of its users."""
    _killed: dict[str, int] = field(default_factory=dict)

    @classmethod
    def in_folder(cls, folder: Path, **variables: str) -> "Platform":
        """Return a platform that keeps its state in `folder` and is not started yet."""
        return cls.of_release(ROOT, folder, variables)

    @classmethod
    def of_release(cls, release: Path, folder: Path, variables: Mapping[str, str] | None = None) -> "Platform":
        """Return the same with the functions of another tree, on the database of this one."""
        return cls(Stack.throw_away(folder, release=release, report=silent, **{**VARIABLES, **(variables or {})}))

    def pid(self, part: str) -> int:
        """Return the process id of a part that runs."""
        pid = self.stack.processes[part].pid
        assert pid is not None, f"{part} does not run:\n{self.tail(part)}"
        return pid

    def kill(self, part: str, sign: signal.Signals = signal.SIGKILL) -> None:
        """End a part, without a chance to say goodbye unless another signal gives it one; it is started again."""
        self._killed[part] = self.pid(part)
        os.kill(self._killed[part], sign)

    @contextmanager
    def paused(self, part: str) -> Iterator[None]:
        """Let a part stand still meanwhile."""
        pid = self.pid(part)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def back(self, part: str) -> None:
        """Return when the successor of a part that was killed is ready."""
        health = self.stack.urls[part] + health_path(part) if part in self.stack.urls else None

        def ready() -> bool:
            if self.stack.processes[part].pid in (None, self._killed[part]):
                return False
            if part == POSTGRES:
                return self._database_answers()
            return health is None or answers(health)

        await self.until(ready, f"{part} did not come back", part)

    def _database_answers(self) -> bool:
        """Whether PostgreSQL takes connections, which it does not while it recovers."""
        try:
            return self.query("SELECT 1") == [(1,)]
        except psycopg.OperationalError:
            return False

    async def until(self, condition: Callable[[], object], complaint: str, *parts: str) -> None:
        """Return once the condition holds; fail with the ends of the parts' logs."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"{complaint}\n{self.tail(*parts)}"
            await asyncio.sleep(POLL_SECONDS)

    def tail(self, *parts: str) -> str:
        """Return the ends of the parts' logs."""
        shown = []
        for part in ("stack", *parts):
            log = self.stack.state.logs / f"{part}.log"
            lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if log.exists() else ["(no log)"]
            shown.append("\n".join([f"--- {part}", *lines]))
        return "\n".join(shown)

    def secrets(self) -> set[str]:
        """Return what no log of this stack may hold."""
        state, connections = self.stack.state, self.stack.connections
        urls = (connections.database_url, connections.relay_database_url, connections.migration_database_url)
        kept = json.loads((state.path / "passwords.json").read_text())
        assert kept, "the stack keeps its passwords elsewhere"
        key = os.environ.get("LITELLM_API_KEY", "sk-dev-key")
        return {*self.issued, *kept.values(), *passwords([*urls, connections.redis_url]), key}

    def query(self, statement: str, arguments: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, with the rights of the role that migrates."""
        with psycopg.connect(self.stack.connections.migration_database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, arguments)
            return cursor.fetchall() if cursor.description else []

    def new_tenant(self) -> UUID:
        """Return the id of a tenant that nobody else uses."""
        [(tenant,)] = self.query("SELECT core.provision_tenant(%s, 'A tenant')", [f"tenant-{uuid4().hex}"])
        assert isinstance(tenant, UUID)
        return tenant

    def service_key(self, name: str) -> str:
        """Return a new API key of a new service account of the demo tenant."""
        url = self.stack.connections.migration_database_url
        with psycopg.connect(url, autocommit=True, row_factory=scalar_row) as connection:
            seeder = Seeder(connection, "demo", "Demo")
            seeder.service_account(name, ["service"])
            key = seeder.seed.keys[name]
        self.issued.add(key)
        return key

    def ledger(self, turn: str) -> list[tuple[str, int]]:
        """Return a turn's movements of the budget, in their order."""
        return self.query("SELECT entry, tokens FROM budget.ledger WHERE turn_id = %s ORDER BY id", [turn])

    def attempts(self, turn: str) -> int:
        """Return how often the generation of a turn's answer was begun."""
        [(attempts,)] = self.query("SELECT attempts FROM inference.jobs WHERE turn_id = %s", [turn])
        return int(attempts)

    def embedded(self, tenant: UUID) -> int:
        """Return for how many embeddings a tenant was charged, and fail when one of them still holds something."""
        embeddings = """
            SELECT count(l.*), count(*) FILTER (WHERE r.closed_at IS NULL)
            FROM budget.reservations AS r
            LEFT JOIN budget.ledger AS l ON (l.tenant_id, l.turn_id, l.entry) = (r.tenant_id, r.turn_id, 'settle')
            WHERE r.tenant_id = %s AND r.model IN (SELECT m.name FROM rag.embedding_models AS m)
        """
        [(charged, held)] = self.query(embeddings, [tenant])
        assert held == 0
        return int(charged)

    def assert_charged_once(self, turn: str, tokens: int) -> None:
        """Fail unless the turn paid `tokens`, once, and holds nothing any more; every balance is what the ledger says."""
        movements = self.ledger(turn)
        held = movements[0][1]
        assert movements == [("reserve", held), ("release", held), ("settle", tokens)]
        assert self.query("SELECT settled FROM budget.reservations WHERE turn_id = %s", [turn]) == [(tokens,)]
        assert not self.query(
            """
            SELECT b.tenant_id, b.period, b.reserved, b.settled, l.reserved, l.settled
            FROM budget.balances AS b
            CROSS JOIN LATERAL (
              SELECT
                sum(CASE e.entry WHEN 'reserve' THEN e.tokens WHEN 'release' THEN -e.tokens ELSE 0 END) AS reserved,
                sum(CASE e.entry WHEN 'settle' THEN e.tokens ELSE 0 END) AS settled
              FROM budget.ledger AS e
              WHERE e.tenant_id = b.tenant_id AND CASE b.period WHEN 'day' THEN e.day ELSE e.month END = b.starts_on
            ) AS l
            WHERE (b.reserved, b.settled) <> (l.reserved, l.settled)
            """
        )

    async def indexed(self, document: str) -> None:
        """Return once a document is indexed."""
        await self.until(
            lambda: self.query("SELECT status FROM rag.documents WHERE id = %s", [document]) == [("indexed",)],
            f"document {document} is not indexed",
            "ingestion-worker",
            "job-sink",
            "ingestion-job",
            "embedding",
            "relay",
            "broker",
        )
