"""Whether this process lives, and whether what it depends on answers."""

import asyncio

from psycopg.errors import InsufficientPrivilege, InvalidSchemaName, UndefinedFunction
from redis.exceptions import RedisError
from starlette.responses import JSONResponse, Response

from shared import metrics
from shared.problems import Problem
from shared.runtime import runtime

CHECK_TIMEOUT_SECONDS = 3.0
OK = "ok"


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

    It is exported too. A function that is not ready gets no requests, so that no failure of one would tell of it.
    """
    database, redis = await asyncio.gather(_database(), _redis())
    states = {"database": database, "redis": redis}
    metrics.keep("stores", [_available(store, state) for store, state in states.items()])
    return states


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
