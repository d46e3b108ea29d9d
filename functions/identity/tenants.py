"""The caller's tenant, and for the platform's administrators all of them."""

from starlette.requests import Request
from starlette.responses import Response

from functions.identity.answers import MAX_BODY_BYTES, private
from functions.identity.models import OwnTenantChange, TenantChange, TenantRequest, UserPage
from shared.access import call
from shared.http import read_json, validate


async def own(request: Request) -> Response:
    """Show the caller's tenant."""
    return private(await call(request, "core.read_tenant"))


async def update_own(request: Request) -> Response:
    """Change the caller's tenant."""
    change = await read_json(request, OwnTenantChange, MAX_BODY_BYTES)
    return private(await call(request, "core.update_tenant", p_name=change.name))


async def list_all(request: Request) -> Response:
    """List all tenants."""
    page = validate(UserPage, dict(request.query_params))
    return private({"tenants": await call(request, "core.list_tenants", p_after=page.after, p_limit=page.limit)})


async def create(request: Request) -> Response:
    """Make a tenant."""
    wanted = await read_json(request, TenantRequest, MAX_BODY_BYTES)
    tenant = await call(
        request,
        "core.create_tenant",
        p_slug=wanted.slug,
        p_name=wanted.name,
        p_time_zone=wanted.time_zone,
        p_admin_subject=wanted.admin_subject,
    )
    return private(tenant, 201)


async def update(request: Request) -> Response:
    """Change, suspend or resume a tenant."""
    change = await read_json(request, TenantChange, MAX_BODY_BYTES)
    tenant = await call(
        request,
        "core.update_tenant",
        p_tenant_id=request.path_params["tenant_id"],
        p_name=change.name,
        p_time_zone=change.time_zone,
        p_active=change.active,
    )
    return private(tenant)
