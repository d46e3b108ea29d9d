"""The `chat` function: accept a question, stream its answer, resume the stream, stop the turn."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from functions.chat import sharing, turns
from functions.chat.models import Accepted, Question, Shares, Sharing, Turn
from shared.http import Operation, application

STREAM = "text/event-stream"

APPLICATION = application(
    "Chat",
    [
        Operation(
            "POST",
            "/chat",
            turns.ask,
            "Ask a question; the answer is streamed, or with stream=false accepted (202)",
            "chat.ask",
            Question,
            Accepted,
            content_type=STREAM,
            parameters=("header:Idempotency-Key", "header:traceparent"),
        ),
        Operation("GET", "/turns/{turn_id:uuid}", turns.show, "How a turn stands or ended", "chat.read", response=Turn),
        Operation(
            "GET",
            "/turns/{turn_id:uuid}/stream",
            turns.resume,
            "A turn's events from the beginning, or after Last-Event-ID",
            "chat.read",
            content_type=STREAM,
            parameters=("header:Last-Event-ID",),
        ),
        Operation(
            "POST",
            "/turns/{turn_id:uuid}/stop",
            turns.stop,
            "End a turn; what was generated is kept",
            "chat.stop",
            response=Turn,
        ),
        Operation(
            "GET",
            "/conversations/{conversation_id:uuid}/shares",
            sharing.show,
            "Who may read a conversation besides its owner",
            "chat.read",
            response=Shares,
        ),
        Operation(
            "PUT",
            "/conversations/{conversation_id:uuid}/shares",
            sharing.replace,
            "Say who may read a conversation besides its owner",
            "chat.share",
            Sharing,
            Shares,
        ),
    ],
)


@http
async def chat(_: Request) -> Response:
    """Serve the function's HTTP requests."""
    return APPLICATION
