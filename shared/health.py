"""Whether this process lives, and whether what it depends on answers."""

import asyncio

from redis.exceptions import RedisError
from starlette.responses import JSONResponse, Response

from shared import metrics
from shared.problems import Problem
from shared.runtime import runtime

CHECK_TIMEOUT_SECONDS = 3.0


async def live() -> Response:
    """Answer 200: the process serves requests."""
    return JSONResponse({"status": "ok"})


async def ready() -> Response:
    """Answer 200 when PostgreSQL and Redis answer, else 503 with the state of each."""
    checks = dict(zip(("database", "redis"), await asyncio.gather(_database(), _redis()), strict=True))
    good = all(state == "ok" for state in checks.values())
    return JSONResponse({"status": "ok" if good else "unavailable", "checks": checks}, status_code=200 if good else 503)


async def exposition() -> Response:
    """Answer with the process's metrics in Prometheus' text format."""
    body, content_type = metrics.exposition()
    return Response(body, media_type=content_type)


async def _database() -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await (await runtime.database()).ping()
    except (Problem, TimeoutError):
        return "unreachable"
    return "ok"


async def _redis() -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await runtime.redis().ping()
    except (RedisError, OSError, TimeoutError):
        return "unreachable"
    return "ok"


ROUTES = {"/health/live": live, "/health/ready": ready, "/metrics": exposition}
"""What every function answers besides its own operations."""
