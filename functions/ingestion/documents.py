"""Taking documents in, over HTTP and by event, and telling how far they are."""

import codecs
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.ingestion.models import Document, Listing, Submission, Target
from shared import logs
from shared.access import admitted
from shared.events import INGESTION_SUBMITTED, Delivery, consumer
from shared.http import read_body, validate
from shared.principal import Actor
from shared.problems import Problem
from shared.runtime import runtime
from shared.text import is_storable

MAX_DOCUMENT_BYTES = 8 * 1024 * 1024
MEDIA_TYPES = ("text/markdown", "text/plain")
NO_CHARSETS = frozenset({"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined"})
"""Encodings that Python has and documents have not; some take a time that grows with the square of the length."""
FUNCTION = "ingestion"


async def upload(request: Request) -> Response:
    """Store the body as a document."""
    admission = admitted(request)
    target = validate(Target, dict(request.query_params))
    media_type, charset = _content_type(request.headers.get("content-type", ""))
    content = _decode(await read_body(request, MAX_DOCUMENT_BYTES), charset)
    database = await runtime.database()
    document_id: UUID = await database.call(
        "rag.store_document", admission.principal, **_arguments(target, media_type, content)
    )
    logs.info("document_stored", document_id=document_id, tenant_id=admission.principal.tenant_id, name=target.name)
    document = await _find(admission.principal, document_id)
    return JSONResponse(document, status_code=202, headers={"Location": f"/documents/{document_id}"})


async def show(request: Request) -> Response:
    """Tell how far a document is."""
    admission = admitted(request)
    document = await _find(admission.principal, request.path_params["document_id"])
    return JSONResponse(document)


async def list_all(request: Request) -> Response:
    """Tell how far the documents are, of all collections or of one."""
    admission = admitted(request)
    listing = validate(Listing, dict(request.query_params))
    database = await runtime.database()
    rows = await database.rows("rag.document_status", admission.principal, p_collection=listing.collection)
    return JSONResponse({"documents": [_shape(row) for row in rows]})


@consumer(INGESTION_SUBMITTED, function=FUNCTION, data=Submission)
async def store_submitted(delivery: Delivery[Submission]) -> None:
    """Store a document that an event carries; storing it asks for its indexing by another event."""
    submission = delivery.data
    media_type, _ = _content_type(submission.media_type)
    _check_text(submission.content)
    arguments = _arguments(submission, media_type, submission.content)
    document_id = await delivery.effect("rag.store_document", **arguments)
    logs.info("document_stored", document_id=document_id, tenant_id=delivery.actor.tenant_id, name=submission.name)


def _arguments(target: Target, media_type: str, content: str) -> dict[str, object]:
    """Return what rag.store_document takes."""
    return {
        "p_collection": target.collection,
        "p_name": target.name,
        "p_media_type": media_type,
        "p_original": content.encode(),
    }


async def _find(actor: Actor, document_id: UUID | None) -> dict[str, Any]:
    database = await runtime.database()
    rows = await database.rows("rag.document_status", actor, p_document_id=document_id)
    if not rows:
        raise Problem("not_found", "There is no such document.", extra={"document_id": str(document_id)})
    return _shape(rows[0])


def _shape(row: dict[str, Any]) -> dict[str, Any]:
    return Document.model_validate(row).model_dump(mode="json")


def _content_type(value: str) -> tuple[str, str]:
    """Return media type and charset; raises Problem `unsupported_media_type`."""
    media_type, _, parameters = value.partition(";")
    media_type = media_type.strip().lower()
    if media_type not in MEDIA_TYPES:
        raise Problem(
            "unsupported_media_type",
            f"Send one of {', '.join(MEDIA_TYPES)} as Content-Type.",
            headers={"Accept-Post": ", ".join(MEDIA_TYPES)},
        )
    charset = "utf-8"
    for parameter in parameters.split(";"):
        name, _, given = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = given.strip(' "')
    try:
        codec = codecs.lookup(charset).name
    except (LookupError, ValueError):
        codec = None
    if codec is None or codec in NO_CHARSETS:
        raise Problem("unsupported_media_type", "The charset of the Content-Type is not known.")
    return media_type, codec


def _decode(body: bytes, charset: str) -> str:
    try:
        text = body.decode(charset).removeprefix("\ufeff")
    except (UnicodeError, LookupError) as error:
        raise Problem("undecodable_document", f"The document is not {charset} text.") from error
    _check_text(text)
    return text


def _check_text(text: str) -> None:
    """Refuse what cannot be a text: nothing, or characters that no text file has."""
    if not text.strip():
        raise Problem("undecodable_document", "The document is empty.")
    if not is_storable(text):
        raise Problem("undecodable_document", "The document contains NUL characters or lone surrogates: it is no text.")
