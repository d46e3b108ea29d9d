"""Collections over HTTP. Every rule is in the database: here requests are read, and answers written."""

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.ingestion.models import CollectionChange, Granting, Named
from shared.access import call
from shared.http import read_json, validate

MAX_BODY_BYTES = 256 * 1024


async def list_all(request: Request) -> Response:
    """List the collections that the caller may read."""
    return JSONResponse({"collections": await call(request, "rag.list_collections")})


async def put(request: Request) -> Response:
    """Make a collection (201), or change one (200)."""
    change = await read_json(request, CollectionChange, MAX_BODY_BYTES, optional=True)
    collection = await call(
        request,
        "rag.put_collection",
        p_name=_name(request),
        p_description=change.description,
        p_visibility=change.visibility,
    )
    return JSONResponse(collection, status_code=201 if collection.pop("created") else 200)


async def delete(request: Request) -> Response:
    """Delete a collection with all documents in it."""
    await call(request, "rag.delete_collection", p_name=_name(request))
    return Response(status_code=204)


async def grants(request: Request) -> Response:
    """Tell who may use a collection."""
    return JSONResponse(await call(request, "rag.list_grants", p_name=_name(request)))


async def share(request: Request) -> Response:
    """Make these the ones who may use a collection, instead of those before."""
    name, granting = _name(request), await read_json(request, Granting, MAX_BODY_BYTES)
    given = [grant.model_dump(mode="json", exclude_none=True) for grant in granting.grants]
    return JSONResponse(await call(request, "rag.share_collection", p_name=name, p_grants=json.dumps(given)))


def _name(request: Request) -> str:
    return validate(Named, request.path_params).collection
