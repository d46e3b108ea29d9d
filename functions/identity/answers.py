"""What the identity function's handlers share: no answer of theirs may be kept on its way."""

from starlette.responses import JSONResponse

MAX_BODY_BYTES = 64 * 1024


def private(document: object, status: int = 200) -> JSONResponse:
    """Return a document that nobody on its way may keep."""
    return JSONResponse(document, status_code=status, headers={"Cache-Control": "no-store"})
