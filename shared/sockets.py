"""WebSocket routes (RFC 6455) of functions, which functions-framework's application has none of."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from starlette.websockets import WebSocket

from shared.http import ProblemResponses
from shared.problems import Problem
from shared.settings import get_settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

EntryPoint = TypeVar("EntryPoint", bound=Callable[..., Any])
Conversation = Callable[[WebSocket], Awaitable[None]]

_declared: dict[tuple[str, str], Conversation] = {}
"""By entry point and path, as functions-framework knows its functions by their names."""


def websocket(path: str, conversation: Conversation) -> Callable[[EntryPoint], EntryPoint]:
    """Declare that a function also serves WebSockets at a path: it accepts each one itself, or raises Problem instead."""

    def declare(function: EntryPoint) -> EntryPoint:
        _declared[function.__name__, path] = conversation
        return function

    return declare


def application(function: str) -> "ASGIApp":
    """Return the ASGI application of a function's WebSockets; what it refuses is answered to the handshake as over HTTP."""

    async def serve(scope: "Scope", receive: "Receive", send: "Send") -> None:
        conversation = _declared.get((function, scope["path"]))
        if conversation is None:
            raise Problem("route_not_found", "No WebSocket is served at this address.")
        socket = WebSocket(scope, receive, send)
        _check_origin(socket)
        await conversation(socket)

    return ProblemResponses(serve, Problem.response)


def _check_origin(socket: WebSocket) -> None:
    """Raise Problem for a page of another site: CORS does not hold for WebSockets (RFC 6455, section 10.2)."""
    origin = socket.headers.get("origin")
    if origin is None or origin in get_settings().cors_allowed_origins:
        return
    if urlsplit(origin).netloc != socket.headers.get("host"):
        raise Problem("forbidden", "Pages of this origin may not open WebSockets here.")
