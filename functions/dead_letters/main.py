"""The `dead-letters` function: `bury` records what the broker has given up, so that it can be seen, and sent again."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from functions.dead_letters.burying import bury_any
from shared.events import consume


@http
async def bury(request: Request) -> Response:
    """Consume an event of the platform that a Trigger could not deliver."""
    return await consume(request, bury_any)
