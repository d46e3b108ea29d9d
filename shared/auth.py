"""Bearer credentials (RFC 6750) to principals: tokens of the identity provider or of development, and API keys."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from starlette.datastructures import Headers

from shared import logs
from shared.api_keys import PREFIX, ApiKey
from shared.oidc import LEEWAY_SECONDS, KeySet, TokenError, dig, key_set, verify
from shared.principal import Principal
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import DEV_AUDIENCE, DEV_ISSUER, Settings, get_settings
from shared.text import is_storable

DEV_ALGORITHM = "HS256"
DEV_TENANT_CLAIM = "tenant_id"
DEV_ROLES_CLAIM = "roles"
DEV_GROUPS_CLAIM = "groups"
MAX_TOKEN_BYTES = 8192
MAX_NAME_CHARS = 255
KNOWN_KEY_SECONDS = 30.0
MAX_KNOWN_KEYS = 10_000


@dataclass(frozen=True)
class Identity:
    """Who asks; `rate_limit_per_minute` where an API key has a limit of its own."""

    principal: Principal
    rate_limit_per_minute: int | None = None
    expires_at: datetime | None = None
    """Until when a token is good, without leeway. PostgreSQL knows when a key expires."""


class Unauthenticated(Problem):
    """The 401, and what only operators learn of it.

    `reason` is for log and audit; without one nobody has tried to log in. `tenant_id` is set where it is certain.
    """

    def __init__(self, detail: str, reason: str | None = None, tenant_id: UUID | None = None) -> None:
        super().__init__("unauthenticated", detail)
        self.reason = reason
        self.tenant_id = tenant_id


def issue_dev_token(
    *,
    secret: str,
    tenant_id: UUID,
    subject: str,
    roles: Sequence[str] = ("member",),
    groups: Sequence[str] = (),
    ttl_seconds: int = 86400,
    issuer: str = DEV_ISSUER,
    audience: str = DEV_AUDIENCE,
) -> str:
    """Return a token (JWT, RFC 7519) that a function in dev or test accepts, with the claims tenant_id, sub, roles, groups."""
    import jwt

    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        DEV_TENANT_CLAIM: str(tenant_id),
        DEV_ROLES_CLAIM: list(roles),
        DEV_GROUPS_CLAIM: list(groups),
        "iat": now,
        "exp": now + ttl_seconds,
    }
    return jwt.encode(claims, secret, algorithm=DEV_ALGORITHM)


async def authenticate(token: str, operation: str, settings: Settings) -> Identity:
    """Return whose token or API key this is, about to do the operation; raises Unauthenticated.

    A token is the identity provider's; in dev and test, one signed with DEV_JWT_SECRET is taken as well.
    """
    if token.startswith(PREFIX):
        return await _of_key(token, operation)
    try:
        if settings.environment != "prod" and _algorithm(token) == DEV_ALGORITHM:
            claims = _verify_dev_token(token, settings)
            places = DEV_TENANT_CLAIM, DEV_ROLES_CLAIM, DEV_GROUPS_CLAIM
            return Identity(_principal(claims, operation, *places), expires_at=_moment(claims["exp"]))
        claims = await verify(token, provider_keys(), settings)
        places = settings.oidc_tenant_claim, settings.oidc_roles_claim, settings.oidc_groups_claim
        return Identity(_principal(claims, operation, *places), expires_at=_moment(claims["exp"]))
    except TokenError as error:
        # The reason is for operators; the caller may be somebody who tries tokens.
        raise Unauthenticated("The token is not valid.", str(error)) from error


@cache
def provider_keys() -> KeySet:
    """Return the identity provider's keys, as this process knows them."""
    return key_set(get_settings())


def bearer(headers: Headers) -> str:
    """Return the token or API key of a request's headers; raises Unauthenticated."""
    values = headers.getlist("authorization")
    if len(values) != 1:
        reason = "several Authorization headers" if values else None
        raise Unauthenticated("Send exactly one Authorization header with a bearer token or API key.", reason)
    scheme, _, token = values[0].partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated(
            "The Authorization header holds no bearer token.", "no bearer token, or a longer one than any"
        )
    return token


async def _of_key(text: str, operation: str) -> Identity:
    key = ApiKey.parse(text)
    if key is None:
        raise Unauthenticated("The API key is not valid.", "malformed key")
    digest = key.digest()
    known = _known_keys.get((key.tenant_id, key.key_id, digest))
    if known is None or known.until < time.monotonic():
        known = await _ask_for_key(key.tenant_id, key.key_id, digest)
    principal = Principal(key.tenant_id, known.subject, operation, api_key_id=key.key_id, api_key_sha256=digest)
    return Identity(principal, known.rate_limit_per_minute)


@dataclass(frozen=True)
class _KnownKey:
    """What the database has said of a key, and until when it is not asked again (monotonic seconds)."""

    subject: str
    rate_limit_per_minute: int | None
    until: float


_known_keys: dict[tuple[UUID, UUID, bytes], _KnownKey] = {}
"""Keys that were good a moment ago. Whether one still is, PostgreSQL decides with each call (core.enter), by its secret too."""


async def ask_again(principal: Principal) -> None:
    """Ask why a key is refused that was known to be good; raises Unauthenticated with the reason."""
    if principal.api_key_id is not None and principal.api_key_sha256 is not None:
        await _ask_for_key(principal.tenant_id, principal.api_key_id, principal.api_key_sha256)


async def _ask_for_key(tenant_id: UUID, key_id: UUID, digest: bytes) -> _KnownKey:
    database = await runtime.database()
    answer = await database.call(
        "core.authenticate_key", p_tenant_id=tenant_id, p_key_id=key_id, p_secret_sha256=digest
    )
    place = tenant_id, key_id, digest
    if "refused" in answer:
        _known_keys.pop(place, None)
        reason = f"{answer['refused']}: {key_id}"
        raise Unauthenticated("The API key is not valid.", reason, tenant_id if answer["authentic"] else None)
    if len(_known_keys) >= MAX_KNOWN_KEYS:
        _known_keys.clear()
    known = _KnownKey(answer["subject"], answer["rate_limit_per_minute"], time.monotonic() + KNOWN_KEY_SECONDS)
    _known_keys[place] = known
    return known


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


def _principal(
    claims: Mapping[str, Any], operation: str, tenant_claim: str, roles_claim: str, groups_claim: str
) -> Principal:
    """Return whom verified claims name; raises TokenError when they name nobody the platform can know."""
    tenant, subject = dig(claims, tenant_claim), claims["sub"]
    try:
        tenant_id = UUID(tenant)
    except (ValueError, TypeError, AttributeError) as error:
        raise TokenError(f"the claim {tenant_claim} is no tenant's id") from error
    if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_NAME_CHARS or not subject.isprintable():
        raise TokenError("the claim sub is no subject")
    return Principal(
        tenant_id,
        subject,
        operation,
        roles=_names(claims, roles_claim),
        groups=_names(claims, groups_claim),
        name=_text(claims.get("name")),
        email=_text(claims.get("email")),
        issued_at=_moment(claims.get("iat")),
    )


def _names(claims: Mapping[str, Any], claim: str) -> tuple[str, ...]:
    """Return a list of names, each once and in order; raises TokenError for what is no list."""
    values = dig(claims, claim)
    if not isinstance(values, list | None):
        raise TokenError(f"the claim {claim} is no list")
    return tuple(sorted({name for value in values or () if (name := _text(value))}))


def _moment(value: object) -> datetime | None:
    """Return the time of a NumericDate (RFC 7519, section 2), or None for what is none."""
    try:
        return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else None
    except (ValueError, OverflowError, OSError):
        return None


def _text(value: object) -> str | None:
    """Return a short text that can be stored, or None."""
    good = isinstance(value, str) and 1 <= len(value) <= MAX_NAME_CHARS and is_storable(value)
    return value if good and isinstance(value, str) else None


def log_refusal(problem: Unauthenticated, operation: str) -> None:
    """Log why nobody was let in; the answer does not say."""
    logs.warning("token_refused", reason=problem.reason, operation=operation, tenant_id=problem.tenant_id)
