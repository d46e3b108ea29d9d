"""The audit log: reading it, and checking that nobody has tampered with it."""

from starlette.requests import Request
from starlette.responses import Response

from functions.identity.answers import private
from functions.identity.models import Chain, EntryPage
from shared.access import call
from shared.http import validate


async def read(request: Request) -> Response:
    """Read entries; reading is an entry itself."""
    page = validate(EntryPage, dict(request.query_params))
    entries = await call(
        request,
        "compliance.read_audit",
        p_after=page.after,
        p_limit=page.limit,
        p_action=page.action,
        p_platform=page.platform,
    )
    return private({"entries": entries})


async def verify(request: Request) -> Response:
    """Check the chain of hashes."""
    chain = validate(Chain, dict(request.query_params))
    return private(await call(request, "compliance.verify_audit", p_platform=chain.platform))
