"""The leases of the jobs that this process runs: one heartbeat for all of them, and none while there are none.

A beat is one statement however many jobs there are. It keeps the leases, brings the users' wish to stop, and tells of
leases that were lost.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from shared import logs
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import get_settings

WORKER = f"{os.environ.get('HOSTNAME', 'local')}/{os.getpid()}"
"""This process, as the database knows it."""
BEAT_SECONDS = 0.5
"""How soon a wish to stop is heard."""
KEPT_SHARE = 2 / 3
"""What of a lease is left, at the least, after a beat: see inference.renew."""

Verdict = Literal["stop", "lost"]


@dataclass
class Lease:
    """One job of this process; `end` is called once, when it must not go on."""

    tenant_id: UUID
    job_id: UUID
    attempt: int
    generated: Callable[[], int]
    """How many tokens there are by now."""
    end: Callable[[Verdict], None]
    held_until: float = field(init=False)

    def key(self) -> "Attempt":
        """Return what names it: a process may begin a job again that it has lost without hearing of it yet."""
        return self.job_id, self.attempt


Attempt = tuple[UUID, int]

_held: dict[Attempt, Lease] = {}
_heartbeat: asyncio.Task[None] | None = None


@contextmanager
def keep(lease: Lease) -> Iterator[None]:
    """Keep a lease that was just claimed, until the block is left."""
    global _heartbeat  # noqa: PLW0603 - a process has one
    lease.held_until = time.monotonic() + get_settings().job_lease_seconds
    _held[lease.key()] = lease
    if _heartbeat is None or _heartbeat.done():
        _heartbeat = asyncio.create_task(_beat())
    try:
        yield
    finally:
        _held.pop(lease.key(), None)


async def _beat() -> None:
    while _held:
        await asyncio.sleep(min(BEAT_SECONDS, get_settings().job_lease_seconds / 5))
        if leases := list(_held.values()):
            states = await _renew(leases)
            for lease in leases:
                _apply(lease, states)


def _apply(lease: Lease, states: dict[Attempt, str]) -> None:
    state, now = states.get(lease.key()), time.monotonic()
    if state == "held":
        lease.held_until = now + get_settings().job_lease_seconds * KEPT_SHARE
    elif lease.key() in _held and (state is not None or now >= lease.held_until):
        # The database may be away for a moment: the lease still holds for a while, and only then is the work given up.
        del _held[lease.key()]
        lease.end("stop" if state == "stop" else "lost")


async def _renew(leases: list[Lease]) -> dict[Attempt, str]:
    """Return the state of each lease; nothing when the database does not answer."""
    runs = [
        {
            "tenant_id": str(lease.tenant_id),
            "job_id": str(lease.job_id),
            "attempt": lease.attempt,
            "generated_tokens": lease.generated(),
        }
        for lease in leases
    ]
    settings = get_settings()
    try:
        async with asyncio.timeout(settings.job_lease_seconds / 3):
            rows = await (await runtime.database()).rows(
                "inference.renew", p_worker=WORKER, p_lease=settings.job_lease(), p_runs=Jsonb(runs)
            )
    except (Problem, TimeoutError, psycopg.Error) as error:
        logs.warning("leases_not_renewed", count=len(leases), error=type(error).__name__)
        return {}
    return {(row["job_id"], row["attempt"]): row["state"] for row in rows}
