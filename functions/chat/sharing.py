"""With whom a conversation is shared: by its owner, and with nobody unless the owner says so."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.chat.models import Sharing
from shared.access import admitted
from shared.http import read_json
from shared.runtime import runtime

MAX_BODY_BYTES = 256 * 1024


async def show(request: Request) -> Response:
    """Tell who may read a conversation besides its owner."""
    database = await runtime.database()
    shares = await database.call(
        "chat.list_shares", admitted(request).principal, p_conversation_id=request.path_params["conversation_id"]
    )
    return JSONResponse(shares)


async def replace(request: Request) -> Response:
    """Make these the readers of a conversation, instead of those before."""
    sharing = await read_json(request, Sharing, MAX_BODY_BYTES)
    database = await runtime.database()
    shares = await database.call(
        "chat.share_conversation",
        admitted(request).principal,
        p_conversation_id=request.path_params["conversation_id"],
        p_users=sharing.users,
        p_groups=sharing.groups,
        p_whole_tenant=sharing.whole_tenant,
    )
    return JSONResponse(shares)
