"""What storing a document is, however it has come."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from functions.ingestion.advice import advised
from functions.ingestion.models import About
from shared import logs
from shared.principal import Principal
from shared.problems import Problem
from shared.runtime import runtime


def check_size(original: bytes, limit: int) -> None:
    """Raise Problem for a document that is empty or too large; whether it can be read turns out later."""
    if not original:
        raise Problem("undecodable_document", "The document is empty.")
    if len(original) > limit:
        raise Problem("request_too_large", f"At most {limit} bytes are taken (MAX_DOCUMENT_BYTES).")


def arguments(about: About, media_type: str, original: bytes) -> dict[str, object]:
    """Return what rag.store_document takes, of a target."""
    told = about.model_dump(include={"collection", "name"})
    return {f"p_{name}": value for name, value in told.items()} | {
        "p_media_type": media_type,
        "p_original": original,
        "p_metadata": None if about.metadata is None else json.dumps(about.metadata),
        "p_dated": about.dated,
    }


async def store(
    principal: Principal, about: About, media_type: str, original: bytes, expected: Sequence[str] | None = None
) -> dict[str, Any]:
    """Store a document of a user and return its state; raises Problem.

    `expected`: entity tags of which it must have one, `*` for any; empty, when there must be no document of that name.
    """
    database = await runtime.database()
    given = arguments(about, media_type, original)
    if expected is not None:
        given["p_expected"] = list(expected)
    document_id: UUID = await database.call("rag.store_document", principal, **given)
    logs.info("document_stored", document_id=document_id, tenant_id=principal.tenant_id, name=given["p_name"])
    return await state(principal, document_id)


async def state(principal: Principal, document_id: UUID) -> dict[str, Any]:
    """Return how far a document is; raises Problem `not_found`."""
    database = await runtime.database()
    return advised(await database.call("rag.read_document", principal, p_document_id=document_id))
