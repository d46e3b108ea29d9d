"""The operations on conversations. Every rule is in the database: here requests are read, and answers written."""

import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.chat.models import ConversationChange, ConversationPage, Export, SearchWords
from shared.access import admitted, call
from shared.http import read_json, validate
from shared.runtime import runtime

MAX_BODY_BYTES = 64 * 1024
MAX_NAME_CHARS = 80
UNNAMEABLE = re.compile(r"[^\w]+")
"""What is neither a letter nor a digit, of whatever script: no separator of paths or headers is left in a file's name."""


async def list_all(request: Request) -> Response:
    """List the caller's conversations, or those shared with the caller."""
    page = validate(ConversationPage, dict(request.query_params))
    conversations = await call(
        request,
        "chat.list_conversations",
        p_archived=page.archived,
        p_shared=page.shared,
        p_cursor=page.cursor,
        p_limit=page.limit,
    )
    return JSONResponse(conversations)


async def search(request: Request) -> Response:
    """Find the caller's conversations by words."""
    wanted = validate(SearchWords, dict(request.query_params))
    found = await call(request, "chat.search_conversations", p_query=wanted.q, p_limit=wanted.limit)
    return JSONResponse({"results": found})


async def show(request: Request) -> Response:
    """Show a conversation with all its branches."""
    tree = await call(request, "chat.read_conversation", p_conversation_id=request.path_params["conversation_id"])
    return JSONResponse(tree)


async def update(request: Request) -> Response:
    """Rename, archive or bring back a conversation."""
    change = await read_json(request, ConversationChange, MAX_BODY_BYTES)
    conversation = await call(
        request,
        "chat.update_conversation",
        p_conversation_id=request.path_params["conversation_id"],
        p_title=change.title,
        p_archived=change.archived,
    )
    return JSONResponse(conversation)


async def delete(request: Request) -> Response:
    """Delete a conversation."""
    database = await runtime.database()
    await database.call_releasing_early(
        "chat.delete_conversation",
        admitted(request).principal,
        p_conversation_id=request.path_params["conversation_id"],
    )
    return Response(status_code=204)


async def export(request: Request) -> Response:
    """Hand out a conversation as a file."""
    wanted = validate(Export, dict(request.query_params))
    conversation_id = request.path_params["conversation_id"]
    if wanted.format == "json":
        tree = await call(request, "chat.read_conversation", p_conversation_id=conversation_id)
        return JSONResponse(tree, headers=_attachment(tree["title"], "json"))
    document = await call(request, "chat.export_markdown", p_conversation_id=conversation_id, p_leaf_id=wanted.leaf)
    return Response(
        document["markdown"],
        media_type="text/markdown; charset=utf-8",
        headers=_attachment(document["title"], "md"),
    )


def _attachment(title: str, extension: str) -> dict[str, str]:
    """Return the headers of a file to be saved under a conversation's title (RFC 6266, section 4.3: in ASCII, and in full)."""
    name = UNNAMEABLE.sub("-", title)[:MAX_NAME_CHARS].strip("-") or "conversation"
    plain = UNNAMEABLE.sub("-", name.encode("ascii", "ignore").decode()).strip("-") or "conversation"
    return {
        "Content-Disposition": (
            f"attachment; filename=\"{plain}.{extension}\"; filename*=UTF-8''{quote(name, safe='')}.{extension}"
        ),
        "X-Content-Type-Options": "nosniff",
    }
