"""Bearer tokens (RFC 6750) to principals: the identity provider's, and in dev and test those of DEV_JWT_SECRET."""

import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

from starlette.requests import Request

from shared import logs
from shared.oidc import LEEWAY_SECONDS, KeySet, TokenError, dig, key_set, verify
from shared.principal import Principal
from shared.problems import Problem
from shared.settings import DEV_AUDIENCE, DEV_ISSUER, Settings, get_settings

DEV_ALGORITHM = "HS256"
DEV_TENANT_CLAIM = "tenant_id"
DEV_ROLES_CLAIM = "roles"
MAX_TOKEN_BYTES = 8192
MAX_SUBJECT_LENGTH = 255


def issue_dev_token(
    *,
    secret: str,
    tenant_id: UUID,
    subject: str,
    roles: Sequence[str] = ("member",),
    ttl_seconds: int = 86400,
    issuer: str = DEV_ISSUER,
    audience: str = DEV_AUDIENCE,
) -> str:
    """Return a token (JWT, RFC 7519) that a function in dev or test accepts, with the claims tenant_id, sub and roles."""
    import jwt

    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "tenant_id": str(tenant_id),
        "roles": list(roles),
        "iat": now,
        "exp": now + ttl_seconds,
    }
    return jwt.encode(claims, secret, algorithm=DEV_ALGORITHM)


async def authenticate(request: Request, settings: Settings) -> Principal:
    """Return who the request's `Authorization: Bearer` token stands for; raises Problem `unauthenticated`.

    The token is the identity provider's. In dev and test, one signed with DEV_JWT_SECRET is taken as well.
    """
    values = request.headers.getlist("authorization")
    if len(values) != 1:
        raise unauthenticated("Send exactly one Authorization header with a bearer token.")
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_BYTES:
        raise unauthenticated("The Authorization header holds no bearer token.")
    try:
        if settings.environment != "prod" and _algorithm(token) == DEV_ALGORITHM:
            return _principal(_verify_dev_token(token, settings), DEV_TENANT_CLAIM, DEV_ROLES_CLAIM)
        claims = await verify(token, provider_keys(), settings)
        return _principal(claims, settings.oidc_tenant_claim, settings.oidc_roles_claim)
    except TokenError as error:
        # The reason is for operators; the caller may be somebody who tries tokens.
        logs.warning("token_refused", reason=str(error))
        raise unauthenticated("The token is not valid.") from error


@cache
def provider_keys() -> KeySet:
    """Return the identity provider's keys, as this process knows them."""
    return key_set(get_settings())


def _algorithm(token: str) -> object:
    import jwt

    try:
        return jwt.get_unverified_header(token).get("alg")
    except (jwt.InvalidTokenError, RecursionError) as error:
        raise TokenError(f"{type(error).__name__}: {error}") from error


def _verify_dev_token(token: str, settings: Settings) -> dict[str, Any]:
    import jwt

    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            settings.dev_jwt_secret.get_secret_value(),
            algorithms=[DEV_ALGORITHM],
            audience=settings.oidc_audience,
            issuer=settings.oidc_issuer_url,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "sub"]},
        )
    except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError) as error:
        raise TokenError(f"{type(error).__name__}: {error}") from error
    return claims


def _principal(claims: Mapping[str, Any], tenant_claim: str, roles_claim: str) -> Principal:
    """Return whom verified claims name; raises TokenError when they name nobody the platform can know."""
    tenant, subject, roles = dig(claims, tenant_claim), claims["sub"], dig(claims, roles_claim)
    try:
        tenant_id = UUID(tenant)
    except (ValueError, TypeError, AttributeError) as error:
        raise TokenError(f"the claim {tenant_claim} is no tenant's id") from error
    if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT_LENGTH or not subject.isprintable():
        raise TokenError("the claim sub is no subject")
    if not isinstance(roles, list | None):
        raise TokenError(f"the claim {roles_claim} is no list")
    return Principal(tenant_id, subject, tuple(str(role) for role in roles or ()))


def unauthenticated(detail: str) -> Problem:
    """Return the 401 with the challenge that RFC 6750 asks for."""
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
