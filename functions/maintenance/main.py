"""The `maintenance` function: `maintain` does daily what a database wants, as far as a function's role may."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from functions.maintenance.maintaining import maintain_daily
from shared.events import consume


@http
async def maintain(request: Request) -> Response:
    """Consume the PingSource's tick."""
    return await consume(request, maintain_daily)
