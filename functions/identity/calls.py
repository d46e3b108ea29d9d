"""What the identity function's handlers share: every one is a call into the database and its answer."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from shared.access import admitted
from shared.runtime import runtime

MAX_BODY_BYTES = 64 * 1024


async def call(request: Request, function: str, **arguments: object) -> Any:
    """Return what an SQL function answers to the request's user."""
    database = await runtime.database()
    return await database.call(function, admitted(request).principal, **arguments)


def private(document: object, status: int = 200) -> JSONResponse:
    """Return a document that nobody on its way may keep."""
    return JSONResponse(document, status_code=status, headers={"Cache-Control": "no-store"})
