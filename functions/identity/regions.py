"""The directory of the regions, and where each tenant is at home: for the platform's administrators."""

import json

from starlette.requests import Request
from starlette.responses import Response

from functions.identity.answers import MAX_BODY_BYTES, private
from functions.identity.models import HomeChange, RegionChange, RegionPlace
from shared.access import call
from shared.http import read_json, validate


async def list_all(request: Request) -> Response:
    """List the regions."""
    return private(await call(request, "core.list_regions"))


async def put(request: Request) -> Response:
    """Add a region, or change one."""
    name = _name(request)
    change = await read_json(request, RegionChange, MAX_BODY_BYTES)
    region = await call(
        request,
        "core.set_region",
        p_name=name,
        p_url=change.url,
        p_function_urls=json.dumps(change.function_urls),
        p_policy=change.policy,
    )
    return private(region)


async def drop(request: Request) -> Response:
    """Take a region out that no tenant has."""
    await call(request, "core.drop_region", p_name=_name(request))
    return Response(status_code=204)


async def home(request: Request) -> Response:
    """Tell where a tenant is at home."""
    return private(await call(request, "core.read_home", p_tenant_id=request.path_params["tenant_id"]))


async def put_home(request: Request) -> Response:
    """Say where a tenant is at home."""
    change = await read_json(request, HomeChange, MAX_BODY_BYTES)
    told = await call(
        request,
        "core.set_home",
        p_tenant_id=request.path_params["tenant_id"],
        p_region=change.region,
        p_policy=change.policy,
    )
    return private(told)


async def drop_home(request: Request) -> Response:
    """Forget where a tenant of another region is at home."""
    await call(request, "core.drop_home", p_tenant_id=request.path_params["tenant_id"])
    return Response(status_code=204)


def _name(request: Request) -> str:
    return validate(RegionPlace, {"region": request.path_params["region"]}).region
