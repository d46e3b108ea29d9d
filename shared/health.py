"""Whether this process lives, and whether what it depends on answers."""

import asyncio
import math
import time
from dataclasses import dataclass

from psycopg.errors import InsufficientPrivilege, InvalidSchemaName, UndefinedFunction
from redis.exceptions import RedisError
from starlette.responses import JSONResponse, Response

from shared import metrics
from shared.problems import Problem
from shared.runtime import runtime

CHECK_TIMEOUT_SECONDS = 3.0
RECENT_SECONDS = 0.5
"""How long it stays true that all was well."""
OK = "ok"


@dataclass
class _Latest:
    """The check that is under way, or was made last."""

    checking: asyncio.Task[dict[str, str]] | None = None
    well_until: float = -math.inf


_latest = _Latest()


async def live() -> Response:
    """Answer 200: the process serves requests."""
    return JSONResponse({"status": OK})


async def ready() -> Response:
    """Answer 200 when PostgreSQL and Redis answer, else 503 with the state of each."""
    checks = await check()
    good = all(state == OK for state in checks.values())
    return JSONResponse({"status": OK if good else "unavailable", "checks": checks}, status_code=200 if good else 503)


async def check() -> dict[str, str]:
    """Return the state of PostgreSQL and of Redis: `ok`, or what is wrong in a few words.

    Knative's queue-proxy waits 100 ms for an answer, and asks again 50 ms later. Whoever asks is told by the check that is
    under way, or was just made. Otherwise a store that is busy, and answers later than that, would be asked by ever more
    checks, none of which is heard, and the function would lose its traffic.
    """
    checking = _latest.checking
    if checking is None or (checking.done() and time.monotonic() >= _latest.well_until):
        runtime.before_close(_forget)
        checking = _latest.checking = asyncio.create_task(_check())
    return await asyncio.shield(checking)


async def _check() -> dict[str, str]:
    _latest.well_until = -math.inf
    database, redis = await asyncio.gather(_database(), _redis())
    states = {"database": database, "redis": redis}
    # A function that is not ready gets no requests, so that no failure of one would tell of it.
    metrics.keep("stores", [_available(store, state) for store, state in states.items()])
    if all(state == OK for state in states.values()):
        _latest.well_until = time.monotonic() + RECENT_SECONDS
    return states


async def _forget() -> None:
    """End with the connections that were asked."""
    checking, _latest.checking = _latest.checking, None
    if checking is not None:
        checking.cancel()
        await asyncio.wait([checking])


async def exposition() -> Response:
    """Answer with the process's metrics in Prometheus' text format."""
    body, content_type = metrics.exposition(runtime.samples())
    return Response(body, media_type=content_type)


def _available(store: str, state: str) -> metrics.Sample:
    meaning = "Whether the store answered when the process was last asked if it is ready"
    return metrics.Sample("enterprise_agent_store_available", meaning, float(state == OK), {"store": store})


async def _database() -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            database = await (await runtime.database()).call("ops.readiness")
    except (Problem, TimeoutError):
        return "unreachable"
    except (InvalidSchemaName, UndefinedFunction):
        return "not migrated"
    except InsufficientPrivilege:
        return "the role may not use the platform's functions"
    if database["bypasses_policies"]:
        return "the role bypasses row-level security"
    return OK


async def _redis() -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await runtime.redis().ping()
    except (RedisError, OSError, TimeoutError):
        return "unreachable"
    return OK


ROUTES = {"/health/live": live, "/health/ready": ready, "/metrics": exposition}
"""What every function answers besides its own operations."""
