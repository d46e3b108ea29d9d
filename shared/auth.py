"""Bearer tokens (RFC 6750) to principals. In dev and test, HMAC tokens signed with DEV_JWT_SECRET are accepted.

PyJWT pulls in `cryptography`, a third of a small function's start-up time, so it is imported with the first token.
"""

import time
from collections.abc import Sequence
from uuid import UUID

from starlette.requests import Request

from shared.principal import Principal
from shared.problems import Problem
from shared.settings import DEV_AUDIENCE, DEV_ISSUER, Settings

DEV_ALGORITHM = "HS256"
LEEWAY_SECONDS = 10
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


def authenticate(request: Request, settings: Settings) -> Principal:
    """Return who the request's `Authorization: Bearer` token stands for; raises Problem `unauthenticated`."""
    values = request.headers.getlist("authorization")
    if len(values) != 1:
        raise unauthenticated("Send exactly one Authorization header with a bearer token.")
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_BYTES:
        raise unauthenticated("The Authorization header holds no bearer token.")
    return verify_dev_token(token, settings)


def verify_dev_token(token: str, settings: Settings) -> Principal:
    """Verify an HMAC token of dev and test; anywhere else no such token is valid."""
    if settings.environment == "prod":
        raise unauthenticated("Development tokens are not accepted here.")
    import jwt

    try:
        claims = jwt.decode(
            token,
            settings.dev_jwt_secret.get_secret_value(),
            algorithms=[DEV_ALGORITHM],
            audience=settings.oidc_audience,
            issuer=settings.oidc_issuer_url,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "sub", "tenant_id"]},
        )
        tenant_id = UUID(claims["tenant_id"])
    except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError) as error:
        raise unauthenticated("The token is not valid.") from error
    subject, roles = claims["sub"], claims.get("roles", [])
    if not 1 <= len(subject) <= MAX_SUBJECT_LENGTH or not subject.isprintable() or not isinstance(roles, list):
        raise unauthenticated("The token's claims are not valid.")
    return Principal(tenant_id, subject, tuple(str(role) for role in roles))


def unauthenticated(detail: str) -> Problem:
    """Return the 401 with the challenge that RFC 6750 asks for."""
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
