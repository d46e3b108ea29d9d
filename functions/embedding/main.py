"""The `embedding` function: `embed` makes the vectors of chunks that wait in the queue."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from functions.embedding import queue
from shared.events import consume


@http
async def embed(request: Request) -> Response:
    """Consume `embedding.requested`: the response comes when nothing is left, or when it is the turn of others."""
    return await consume(request, queue.embed_requested)
