"""The `identity` function: who I am, users, roles, tenants, regions, API keys, the audit log, SAML metadata."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from functions.identity import keys, log, models, regions, saml, tenants, users
from shared.http import PUBLIC, Operation, application, serves

PAGE = ("query:after", "query:limit")

ME = [
    Operation("GET", "/me", users.me, "Whom I act for, and what I may do", "me.read", response=models.Me),
    Operation("GET", "/tenant", tenants.own, "My tenant", "tenant.read", response=models.Tenant),
    Operation(
        "PATCH",
        "/tenant",
        tenants.update_own,
        "Change my tenant",
        "tenant.update",
        models.OwnTenantChange,
        models.Tenant,
    ),
]
KEYS = [
    Operation(
        "POST",
        "/keys",
        keys.create,
        "Make an API key; its secret is shown once",
        "keys.create",
        models.KeyRequest,
        models.NewKey,
        status=201,
    ),
    Operation(
        "GET", "/keys", keys.list_all, "List API keys", "keys.read", response=models.Keys, parameters=("query:user_id",)
    ),
    Operation(
        "POST",
        "/keys/{key_id:uuid}/rotate",
        keys.rotate,
        "Give a key another secret, with an overlap",
        "keys.rotate",
        models.Rotation,
        models.NewKey,
    ),
    Operation("DELETE", "/keys/{key_id:uuid}", keys.revoke, "End a key at once", "keys.revoke", response=models.Key),
]
USERS = [
    Operation("GET", "/users", users.list_all, "List users", "users.read", response=models.Users, parameters=PAGE),
    Operation("GET", "/users/{user_id:uuid}", users.show, "Show a user", "users.read", response=models.User),
    Operation(
        "POST",
        "/users",
        users.create,
        "Make a service account",
        "users.create",
        models.ServiceAccount,
        models.User,
        status=201,
    ),
    Operation(
        "PATCH",
        "/users/{user_id:uuid}",
        users.update,
        "Disable or enable a user",
        "users.update",
        models.UserChange,
        models.User,
    ),
    Operation(
        "DELETE",
        "/users/{user_id:uuid}",
        users.erase,
        "Erase a user and all that is the user's own",
        "users.erase",
        response=models.Erased,
    ),
    Operation(
        "GET", "/roles", users.list_operations, "Which role may do what", "roles.read", response=models.Operations
    ),
    Operation(
        "GET", "/roles/grants", users.list_grants, "Who was granted which roles", "roles.read", response=models.Grants
    ),
    Operation(
        "PUT",
        "/roles/grants",
        users.grant,
        "Replace the roles granted to a user or a group",
        "roles.grant",
        models.Grant,
        models.Grant,
    ),
]
TENANTS = [
    Operation(
        "GET",
        "/tenants",
        tenants.list_all,
        "List all tenants",
        "tenants.read",
        response=models.Tenants,
        parameters=PAGE,
    ),
    Operation(
        "POST",
        "/tenants",
        tenants.create,
        "Make a tenant",
        "tenants.create",
        models.TenantRequest,
        models.Tenant,
        status=201,
    ),
    Operation(
        "PATCH",
        "/tenants/{tenant_id:uuid}",
        tenants.update,
        "Change, suspend or resume a tenant",
        "tenants.update",
        models.TenantChange,
        models.Tenant,
    ),
]
REGIONS = [
    Operation("GET", "/regions", regions.list_all, "List the regions", "regions.read", response=models.Regions),
    Operation(
        "PUT",
        "/regions/{region}",
        regions.put,
        "Add a region, or change one",
        "regions.update",
        models.RegionChange,
        models.Region,
    ),
    Operation(
        "DELETE",
        "/regions/{region}",
        regions.drop,
        "Take a region out that no tenant has",
        "regions.update",
        status=204,
    ),
    Operation(
        "GET",
        "/tenants/{tenant_id:uuid}/home",
        regions.home,
        "Where a tenant is at home",
        "regions.read",
        response=models.Home,
    ),
    Operation(
        "PUT",
        "/tenants/{tenant_id:uuid}/home",
        regions.put_home,
        "Say where a tenant is at home",
        "regions.update",
        models.HomeChange,
        models.Home,
    ),
    Operation(
        "DELETE",
        "/tenants/{tenant_id:uuid}/home",
        regions.drop_home,
        "Forget where a tenant of another region is at home",
        "regions.update",
        status=204,
    ),
]
AUDIT = [
    Operation(
        "GET",
        "/audit",
        log.read,
        "Read the audit log",
        "audit.read",
        response=models.Entries,
        parameters=(*PAGE, "query:action", "query:platform"),
    ),
    Operation(
        "GET",
        "/audit/verify",
        log.verify,
        "Check that the audit log is whole",
        "audit.verify",
        response=models.Verdict,
        parameters=("query:platform",),
    ),
]
SAML = [Operation("GET", "/saml/metadata", saml.show, "SAML metadata", PUBLIC, content_type=saml.MEDIA_TYPE)]

APPLICATION = application("Identity", [*ME, *KEYS, *USERS, *TENANTS, *REGIONS, *AUDIT, *SAML])


@http
@serves(APPLICATION)
async def identity(_: Request) -> Response:
    """Serve the function's HTTP requests."""
    return APPLICATION
