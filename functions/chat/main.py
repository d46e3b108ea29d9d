"""The `chat` function: accept a question, stream its answer, resume the stream, stop the turn; keep the conversations."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from functions.chat import conversations, sharing, sockets, turns
from functions.chat.models import (
    Accepted,
    Conversation,
    ConversationChange,
    Conversations,
    ConversationTree,
    Question,
    Regeneration,
    SearchResults,
    Shares,
    Sharing,
    Trace,
    Turn,
)
from shared.http import Operation, application, serves
from shared.sockets import websocket

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
            "/turns/{turn_id:uuid}/trace",
            turns.trace,
            "What a turn spent its time on, and what was decided for it",
            "chat.read",
            response=Trace,
        ),
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
            "POST",
            "/turns/{turn_id:uuid}/regenerate",
            turns.regenerate,
            "Answer the question of a turn once more; as POST /chat",
            "chat.ask",
            Regeneration,
            Accepted,
            content_type=STREAM,
            parameters=("header:Idempotency-Key", "header:traceparent"),
        ),
        Operation(
            "GET",
            "/conversations",
            conversations.list_all,
            "List conversations, newest first",
            "chat.read",
            response=Conversations,
            parameters=("query:archived", "query:shared", "query:cursor", "query:limit"),
        ),
        Operation(
            "GET",
            "/conversations/search",
            conversations.search,
            "Find conversations by words of their titles and messages",
            "chat.read",
            response=SearchResults,
            parameters=("query:q", "query:limit"),
        ),
        Operation(
            "GET",
            "/conversations/{conversation_id:uuid}",
            conversations.show,
            "A conversation with all its branches",
            "chat.read",
            response=ConversationTree,
        ),
        Operation(
            "PATCH",
            "/conversations/{conversation_id:uuid}",
            conversations.update,
            "Rename, archive or bring back a conversation",
            "chat.manage",
            ConversationChange,
            Conversation,
        ),
        Operation(
            "DELETE",
            "/conversations/{conversation_id:uuid}",
            conversations.delete,
            "Delete a conversation with all that is in it",
            "chat.manage",
            status=204,
        ),
        Operation(
            "GET",
            "/conversations/{conversation_id:uuid}/export",
            conversations.export,
            "A conversation as a file: all of it as JSON, or a branch as Markdown",
            "chat.read",
            response=ConversationTree,
            parameters=("query:format", "query:leaf"),
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


@websocket("/ws", sockets.converse)
@http
@serves(APPLICATION)
async def chat(_: Request) -> Response:
    """Serve the function's HTTP requests."""
    return APPLICATION
