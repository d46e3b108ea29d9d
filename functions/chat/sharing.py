"""With whom a conversation is shared: by its owner, and with nobody unless the owner says so."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.chat.models import Sharing
from shared.access import call
from shared.http import read_json

MAX_BODY_BYTES = 256 * 1024


async def show(request: Request) -> Response:
    """Tell who may read a conversation besides its owner."""
    shares = await call(request, "chat.list_shares", p_conversation_id=request.path_params["conversation_id"])
    return JSONResponse(shares)


async def replace(request: Request) -> Response:
    """Make these the readers of a conversation, instead of those before."""
    sharing = await read_json(request, Sharing, MAX_BODY_BYTES)
    shares = await call(
        request,
        "chat.share_conversation",
        p_conversation_id=request.path_params["conversation_id"],
        p_users=sharing.users,
        p_groups=sharing.groups,
        p_whole_tenant=sharing.whole_tenant,
    )
    return JSONResponse(shares)
