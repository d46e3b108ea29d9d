"""The `inference` function: `infer` generates the answers of jobs, `sweep` puts abandoned work back on its way."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from functions.inference import jobs, sweeping
from shared.events import consume


@http
async def infer(request: Request) -> Response:
    """Consume `inference.requested`: the response comes when the answer is complete."""
    return await consume(request, jobs.run_requested)


@http
async def sweep(request: Request) -> Response:
    """Consume the PingSource's tick."""
    return await consume(request, sweeping.sweep)
