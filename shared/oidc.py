"""Tokens of the company's identity provider: JWTs (RFC 7519) signed with a key of its JWK set (RFC 7517).

The set is found by OpenID Connect Discovery 1.0, or read from JWKS_LOCAL_PATH where there is no network. PyJWT pulls in
`cryptography`, a third of a small function's start-up time, so it is imported with the first token.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared import logs
from shared.runtime import runtime
from shared.settings import Settings

if TYPE_CHECKING:
    from jwt import PyJWK

ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
"""What a key of each type may sign with: asymmetric algorithms only."""
UNTRUSTED_HEADERS = frozenset({"jku", "jwk", "x5u", "x5c", "crit"})
"""A token that brings its own key, or says where to fetch one, is refused whoever signed it."""
LEEWAY_SECONDS = 10
MAX_AGE_SECONDS = 3600.0
REFRESH_SECONDS = 30.0
"""A flood of unknown key ids makes at most one fetch in this time."""
FETCH_TIMEOUT_SECONDS = 5.0
MAX_DOCUMENT_BYTES = 1024 * 1024


class TokenError(Exception):
    """The token is refused; the message is for the log, not for the caller."""


class KeySet:
    """The provider's public keys by key id: fetched when first needed, when unknown ids appear, and once an hour.

    While a fetch fails or hangs, the keys of the last one go on being used.
    """

    def __init__(self, load: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        self._load = load
        self._keys: dict[str, PyJWK] = {}
        self._tried_at = self._loaded_at = -MAX_AGE_SECONDS
        self._lock = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    async def find(self, kid: str) -> "PyJWK":
        """Return the key of an id; raises TokenError when the provider has none of that id.

        No id (`""`) means the only key, where there is only one (OpenID Connect Core 1.0, section 10.1).
        """
        key = self._get(kid)
        if key is None:
            async with self._lock:
                if self._get(kid) is None:
                    await self._refresh()
            key = self._get(kid)
        elif time.monotonic() - self._loaded_at > MAX_AGE_SECONDS and (self._renewal is None or self._renewal.done()):
            # Nobody waits for a provider that hangs while there is a key to go on with.
            self._renewal = asyncio.create_task(self._renew())
        if key is None:
            raise TokenError("no key of that id")
        return key

    def _get(self, kid: str) -> "PyJWK | None":
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    async def _renew(self) -> None:
        async with self._lock:
            await self._refresh()

    async def _refresh(self) -> None:
        from jwt import PyJWTError

        if time.monotonic() - self._tried_at < REFRESH_SECONDS:
            return
        self._tried_at = time.monotonic()
        try:
            keys = usable_keys(await self._load())
        except (PyJWTError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            # The runbook tells operators to look for these words.
            logs.warning("JWKS fetch failed", error=f"{type(error).__name__}: {error}")
            return
        self._keys, self._loaded_at = keys, time.monotonic()


def usable_keys(document: Mapping[str, Any]) -> "dict[str, PyJWK]":
    """Return the keys of a JWK set that sign, by key id.

    Raises ValueError where none does, KeyError or TypeError for what is no such set.
    """
    from jwt import PyJWK, PyJWTError

    keys = {}
    for entry in document["keys"]:
        if entry.get("kty") not in ALGORITHMS or entry.get("use", "sig") != "sig":
            continue
        try:
            keys[str(entry.get("kid", ""))] = PyJWK(entry)
        except PyJWTError as error:
            # One that signs nothing (X25519, RSA-OAEP) does not take the others along.
            logs.info("jwk_ignored", kid=str(entry.get("kid", ""))[:100], error=type(error).__name__)
    if not keys:
        raise ValueError("no key that signs")
    return keys


def key_set(settings: Settings) -> KeySet:
    """Return the key set of the deployment."""
    return KeySet(loader(settings))


def loader(settings: Settings) -> Callable[[], Awaitable[Mapping[str, Any]]]:
    """Return what gets the deployment's JWK set: from JWKS_LOCAL_PATH, or else from OIDC_ISSUER_URL.

    It raises OSError, ValueError, KeyError or TypeError.
    """
    path = settings.jwks_local_path or Path()

    async def from_file() -> Mapping[str, Any]:
        document: dict[str, Any] = json.loads(await asyncio.to_thread(path.read_bytes))
        return document

    async def from_issuer() -> Mapping[str, Any]:
        issuer = settings.oidc_issuer_url
        configuration = await _fetch(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if configuration.get("issuer") != issuer:
            raise ValueError(f"the provider calls itself {configuration.get('issuer')!r}")
        return await _fetch(configuration["jwks_uri"])

    return from_file if settings.jwks_local_path else from_issuer


async def _fetch(url: str) -> dict[str, Any]:
    """Return a JSON document; raises OSError, ValueError or TypeError."""
    from aiohttp import ClientError, ClientTimeout

    try:
        async with runtime.http().get(
            url, timeout=ClientTimeout(FETCH_TIMEOUT_SECONDS), allow_redirects=False
        ) as response:
            response.raise_for_status()
            body = await response.content.read(MAX_DOCUMENT_BYTES)
    except (ClientError, TimeoutError) as error:
        raise OSError(f"{url}: {type(error).__name__}") from error
    document = json.loads(body)
    if not isinstance(document, dict):
        raise TypeError(f"{url}: not a JSON object")
    return document


async def verify(token: str, keys: KeySet, settings: Settings) -> dict[str, Any]:
    """Return the claims of a token that the provider signed for this platform and this client; raises TokenError."""
    import jwt

    try:
        header = jwt.get_unverified_header(token)
        if untrusted := UNTRUSTED_HEADERS & header.keys():
            raise TokenError(f"header {', '.join(sorted(untrusted))}")
        key = await keys.find(str(header.get("kid", "")))
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=list(ALGORITHMS[key.key_type or ""]),
            audience=settings.oidc_audience,
            issuer=settings.oidc_issuer_url,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise TokenError(f"{type(error).__name__}: {error}") from error
    if claims.get("azp") != settings.oidc_client_id:
        raise TokenError("azp is another client")
    return claims


def dig(claims: Mapping[str, Any], path: str) -> Any:
    """Return the claim at a dotted path, for example `realm_access.roles`; None when there is none."""
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
