"""The `health` function: the platform's public health endpoints."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared import health as health_checks
from shared.http import PUBLIC, Operation, application, serves


async def read_health(_: Request) -> Response:
    """Answer `{"status": "ok"}` when PostgreSQL and Redis answer, else 503; /health/ready says which does not."""
    if all(state == health_checks.OK for state in (await health_checks.check()).values()):
        return JSONResponse({"status": health_checks.OK})
    return JSONResponse({"status": "unavailable"}, status_code=503)


# /health/live, /health/ready and /metrics are served for every function by shared.serving.
APPLICATION = application(
    "Health", [Operation("GET", "/health", read_health, "Whether the platform can serve", PUBLIC)]
)


@http
@serves(APPLICATION)
async def health(_: Request) -> Response:
    """Serve the function's HTTP requests."""
    return APPLICATION
