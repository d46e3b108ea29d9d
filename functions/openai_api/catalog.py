"""The names that a request may give as its model: auto, the tiers, the models, and the tenant's aliases."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared.access import call_rows
from shared.problems import Problem


async def list_models(request: Request) -> Response:
    """List them."""
    return JSONResponse({"object": "list", "data": await _models(request)})


async def show_model(request: Request) -> Response:
    """Show one of them."""
    name = request.path_params["model"]
    for model in await _models(request):
        if model["id"] == name:
            return JSONResponse(model)
    raise Problem("no_model", f"There is no model or tier named {name}.")


async def _models(request: Request) -> list[dict[str, Any]]:
    rows = await call_rows(request, "routing.list_names")
    return [
        {"id": row["name"], "object": "model", "created": int(row["created_at"].timestamp()), "owned_by": row["owner"]}
        for row in rows
    ]
