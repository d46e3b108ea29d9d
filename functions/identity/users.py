"""Who I am; the tenant's users and service accounts, and their roles."""

from starlette.requests import Request
from starlette.responses import Response

from functions.identity.answers import MAX_BODY_BYTES, private
from functions.identity.models import Grant, ServiceAccount, UserChange, UserPage
from shared.access import admitted, call
from shared.http import read_json, validate
from shared.problems import Problem
from shared.runtime import runtime


async def me(request: Request) -> Response:
    """Tell whom the request acts for, and what it may do."""
    return private(await call(request, "core.whoami"))


async def list_all(request: Request) -> Response:
    """List the tenant's users."""
    page = validate(UserPage, dict(request.query_params))
    return private({"users": await call(request, "core.list_users", p_after=page.after, p_limit=page.limit)})


async def show(request: Request) -> Response:
    """Show one user."""
    user_id = request.path_params["user_id"]
    users = await call(request, "core.list_users", p_user_id=user_id)
    if not users:
        raise Problem("not_found", "There is no such user.", extra={"user_id": str(user_id)})
    return private(users[0])


async def create(request: Request) -> Response:
    """Make a service account."""
    wanted = await read_json(request, ServiceAccount, MAX_BODY_BYTES)
    user = await call(request, "core.create_service_account", p_name=wanted.name, p_roles=wanted.roles)
    response = private(user, 201)
    response.headers["Location"] = f"/users/{user['id']}"
    return response


async def update(request: Request) -> Response:
    """Disable or enable a user."""
    change = await read_json(request, UserChange, MAX_BODY_BYTES)
    user_id = request.path_params["user_id"]
    return private(await call(request, "core.update_user", p_user_id=user_id, p_active=change.active))


async def erase(request: Request) -> Response:
    """Erase a user."""
    return private(await call(request, "core.erase_user", p_user_id=request.path_params["user_id"]))


async def list_operations(request: Request) -> Response:
    """Show which role may do what."""
    database = await runtime.database()
    return private({"operations": await database.rows("core.operations", admitted(request).principal)})


async def list_grants(request: Request) -> Response:
    """Show who was granted which roles."""
    return private({"grants": await call(request, "core.list_grants")})


async def grant(request: Request) -> Response:
    """Replace the roles granted to a user or a group."""
    wanted = await read_json(request, Grant, MAX_BODY_BYTES)
    granted = await call(
        request, "core.grant_roles", p_roles=wanted.roles, p_user_id=wanted.user_id, p_group_name=wanted.group
    )
    return private(granted)
