"""Taking CloudEvents by POST, as the broker and the JobSinks do, and the probes of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.local.cloudevent import Event, InvalidEventError, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

_BODY_BYTES = 16 * 1024 * 1024


def routes(path: str, take: Callable[[Request, Event], Response], status: Callable[[], object]) -> list[Route]:
    """Return the routes of a receiver: POST of events, `GET /status`, `/health/live`, `/health/ready`."""

    async def receive(request: Request) -> Response:
        body = bytearray()
        size = 0
        async for part in request.stream():
            size += len(part)
            # Read to the end all the same: a sender that is cut off would not see the answer.
            if size <= _BODY_BYTES:
                body += part
        if size > _BODY_BYTES:
            return problem(413, "event-too-large", f"an event may have {_BODY_BYTES} bytes")
        try:
            event = parse(request.headers, bytes(body))
        except InvalidEventError as error:
            return problem(400, "invalid-event", str(error))
        return take(request, event)

    async def tell(_: Request) -> Response:
        return JSONResponse(status())

    async def healthy(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return [
        Route("/status", tell, methods=["GET"]),
        Route("/health/live", healthy, methods=["GET"]),
        Route("/health/ready", healthy, methods=["GET"]),
        Route(path, receive, methods=["POST"]),
    ]


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem document."""
    return JSONResponse(
        {"type": f"urn:enterprise-agents:problem:{code}", "status": status, "detail": detail, "code": code},
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )
