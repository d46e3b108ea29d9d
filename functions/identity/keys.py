"""API keys. The secret is made here and shown once; PostgreSQL gets its hash."""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from functions.identity.answers import MAX_BODY_BYTES, private
from functions.identity.models import KeyFilter, KeyRequest, Rotation
from shared.access import admitted, call
from shared.api_keys import ApiKey
from shared.http import read_json, validate


async def create(request: Request) -> Response:
    """Make a key."""
    wanted = await read_json(request, KeyRequest, MAX_BODY_BYTES)
    key = ApiKey.generate(admitted(request).principal.tenant_id)
    document = await call(
        request,
        "core.create_key",
        p_key_id=key.key_id,
        p_secret_sha256=key.digest(),
        p_name=wanted.name,
        p_user_id=wanted.user_id,
        p_scopes=wanted.scopes,
        p_expires_at=wanted.expires_at,
        p_rate_limit_per_minute=wanted.rate_limit_per_minute,
        p_token_budget_daily=wanted.token_budget_daily,
        p_token_budget_monthly=wanted.token_budget_monthly,
    )
    return private(document | {"key": key.text()}, 201)


async def list_all(request: Request) -> Response:
    """List the keys that the caller may see."""
    wanted = validate(KeyFilter, dict(request.query_params))
    return private({"keys": await call(request, "core.list_keys", p_user_id=wanted.user_id)})


async def rotate(request: Request) -> Response:
    """Give a key another secret."""
    wanted = await read_json(request, Rotation, MAX_BODY_BYTES)
    key = ApiKey.generate(admitted(request).principal.tenant_id, request.path_params["key_id"])
    document = await call(
        request,
        "core.rotate_key",
        p_key_id=key.key_id,
        p_secret_sha256=key.digest(),
        p_overlap=timedelta(seconds=wanted.overlap_seconds),
    )
    return private(document | {"key": key.text()})


async def revoke(request: Request) -> Response:
    """End a key."""
    return private(await call(request, "core.revoke_key", p_key_id=request.path_params["key_id"]))
