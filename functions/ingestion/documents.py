"""Documents over HTTP: taking them in, telling how far they are, handing them out, trying again, and deleting."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from functions.ingestion import media_types, uploads
from functions.ingestion.advice import advised
from functions.ingestion.models import Address, Listing, Named, Range, Target
from functions.ingestion.storing import check_size, state, store
from shared.access import admitted, call
from shared.http import read_body, validate
from shared.problems import Problem
from shared.settings import get_settings

FUNCTION = "ingestion"
SLICE_BYTES = 1024 * 1024
MAX_TEXT_CHARS = 1_000_000
ETAGS = re.compile(r'\s*(?:W/)?"([^"]*)"\s*(?:,|$)')
UNNAMEABLE = re.compile(r"[^\w.]+")
"""What is no letter, digit or dot, of whatever script: no separator of paths or headers is left in a file's name."""
MAX_FILE_NAME_CHARS = 100


async def upload(request: Request) -> Response:
    """Store the body as a document, or the files of a form as several."""
    if request.headers.get("content-type", "").lower().startswith(uploads.FORM):
        return await uploads.receive(request)
    target = validate(Target, dict(request.query_params))
    document = await _store(request, target, None)
    return JSONResponse(document, status_code=202, headers=_named(document) | _tagged(document))


async def put(request: Request) -> Response:
    """Store the body as the document of a name: 202, or 200 when it is there and indexed already."""
    target = validate(Address, {**request.query_params, **request.path_params})
    document = await _store(request, target, _expected(request))
    status = 200 if document["status"] == "indexed" else 202
    return JSONResponse(document, status_code=status, headers=_named(document) | _tagged(document))


async def _store(request: Request, target: Target | Address, expected: list[str] | None) -> dict[str, Any]:
    limit = get_settings().max_document_bytes
    media_type = media_types.understood(request.headers.get("content-type", ""), target.name)
    async with uploads.room.of(uploads.expected_bytes(request, limit), limit):
        original = await read_body(request, limit)
        check_size(original, limit)
        return await store(admitted(request).principal, target, media_type, original, expected)


def _expected(request: Request) -> list[str] | None:
    """Return the entity tags that the request asks for (RFC 9110, section 13.1): none at all where it asks for nothing."""
    match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if none_match is not None:
        if none_match.strip() != "*":
            raise Problem("invalid_request", "If-None-Match: * is understood here, which stores only what is new.")
        return []
    if match is None:
        return None
    if not (tags := _tags(match)):
        raise Problem("invalid_request", "If-Match must be entity tags, or *.")
    return tags


def _tags(header: str) -> list[str]:
    return ["*"] if header.strip() == "*" else ETAGS.findall(header)


def _named(document: dict[str, Any]) -> dict[str, str]:
    return {"Location": f"/documents/{document['id']}"}


def _tagged(document: dict[str, Any]) -> dict[str, str]:
    return {"ETag": f'"{document["etag"]}"'}


async def show(request: Request) -> Response:
    """Tell how far a document is."""
    document = await state(admitted(request).principal, request.path_params["document_id"])
    return JSONResponse(document, headers=_tagged(document))


async def list_all(request: Request) -> Response:
    """Tell how far the documents are, page by page."""
    listing = validate(Listing, dict(request.query_params))
    found = await call(
        request,
        "rag.list_documents",
        p_collection=listing.collection,
        p_status=listing.status,
        p_prefix=listing.prefix,
        p_metadata=None if listing.metadata is None else json.dumps(listing.metadata),
        p_cursor=listing.cursor,
        p_limit=listing.limit,
    )
    return JSONResponse(found | {"documents": [advised(document) for document in found["documents"]]})


async def delete(request: Request) -> Response:
    """Delete a document with all that was made of it."""
    document_id, expected = request.path_params["document_id"], _expected(request)
    await call(request, "rag.delete_document", p_document_id=document_id, p_expected=expected)
    return Response(status_code=204)


async def retry(request: Request) -> Response:
    """Let a document that failed begin anew."""
    document_id = request.path_params["document_id"]
    await call(request, "rag.retry_document", p_document_id=document_id)
    return JSONResponse(await state(admitted(request).principal, document_id), status_code=202)


async def retry_all(request: Request) -> Response:
    """Let all documents of a collection that failed begin anew."""
    wanted = validate(Named, dict(request.query_params))
    documents = await call(request, "rag.retry_documents", p_collection=wanted.collection)
    return JSONResponse({"documents": documents}, status_code=202)


async def text(request: Request) -> Response:
    """Show a document's text, or the characters to which a citation points."""
    wanted = validate(Range, dict(request.query_params))
    last = wanted.start + MAX_TEXT_CHARS
    shown = await call(
        request,
        "rag.read_text",
        p_document_id=request.path_params["document_id"],
        p_start=wanted.start,
        p_end=min(last, wanted.end if wanted.end is not None else last, 2**31 - 1),
    )
    return JSONResponse(shown)


async def content(request: Request) -> Response:
    """Hand a document's original out, as a file to be saved: a browser must not show what somebody else has written."""
    document_id = request.path_params["document_id"]
    original = await call(request, "rag.describe_original", p_document_id=document_id)
    tag = original["etag"]
    if tag in _tags(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=_tagged(original))

    async def slices() -> AsyncIterator[bytes]:
        for start in range(0, original["size_bytes"], SLICE_BYTES):
            part: bytes | None = await call(
                request,
                "rag.slice_original",
                p_document_id=document_id,
                p_version=original["version"],
                p_start=start,
                p_length=SLICE_BYTES,
            )
            if part is None:
                # The answer is then shorter than it says, so that nobody takes it for the whole.
                raise Problem("not_found", "The document was replaced or deleted while it was read.")
            yield part

    headers = _tagged(original) | {
        "Content-Type": original["media_type"],
        "Content-Length": str(original["size_bytes"]),
        "Content-Disposition": _attachment(original["name"]),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
        "Cache-Control": "private, no-cache",
    }
    return StreamingResponse(slices(), headers=headers)


def _attachment(name: str) -> str:
    """Return the header of a file to be saved under a document's name (RFC 6266, section 4.3: in ASCII, and in full)."""
    last = UNNAMEABLE.sub("-", name.rpartition("/")[2])[-MAX_FILE_NAME_CHARS:].strip("-.") or "document"
    plain = UNNAMEABLE.sub("-", last.encode("ascii", "ignore").decode()).strip("-")
    # Of a name in another script only the suffix may be left.
    plain = f"document{plain}" if plain.startswith(".") and plain.strip(".") else plain.strip(".") or "document"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(last, safe='')}"
