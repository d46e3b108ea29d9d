"""Model names of a tenant's own: what answers, and in which collections each question is searched for."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.routing.models import Alias
from shared.access import call, call_rows
from shared.http import read_json

MAX_BODY_BYTES = 16 * 1024


async def list_aliases(request: Request) -> Response:
    """List the tenant's names."""
    return JSONResponse({"aliases": await call_rows(request, "routing.list_aliases")})


async def set_alias(request: Request) -> Response:
    """Make a name, or change what it stands for."""
    alias = await read_json(request, Alias, MAX_BODY_BYTES)
    return JSONResponse(
        await call(
            request,
            "routing.set_alias",
            p_name=alias.name,
            p_model=alias.model,
            p_collections=alias.collections,
        )
    )


async def drop_alias(request: Request) -> Response:
    """Take a name away."""
    await call(request, "routing.drop_alias", p_name=request.path_params["alias"])
    return Response(status_code=204)
