"""The `health` function: the platform's public health endpoints."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from shared import health as checks
from shared.http import Operation, application


async def read_health(_: Request) -> Response:
    """Answer 200 when PostgreSQL and Redis answer, else 503."""
    return await checks.ready()


# /health/live, /health/ready and /metrics are served for every function by shared.serving.
APPLICATION = application("Health", [Operation("GET", "/health", read_health, "Whether the platform can serve")])


@http
async def health(_: Request) -> Response:
    """Serve the function's HTTP requests."""
    return APPLICATION
