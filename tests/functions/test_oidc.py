"""Tokens of an identity provider: taken from a real one, and every known attack refused."""

import asyncio
import base64
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from infra.local import ports
from shared import oidc
from shared.auth import issue_dev_token, provider_keys
from shared.oidc import KeySet, TokenError
from shared.settings import DEV_JWT_SECRET, get_settings
from tests.functions.platform import Platform

ISSUER = "https://idp.example.com/realms/company"
AUDIENCE = "enterprise-agents-api"
CLIENT = "enterprise-agents"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return public | {"kid": kid, "use": "sig"}


JWKS = {"keys": [jwk(RSA, "rsa"), jwk(EC, "ec"), {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}]}


@pytest.fixture(autouse=True)
def _no_keys_of_another_test() -> Iterator[None]:
    provider_keys.cache_clear()
    yield
    provider_keys.cache_clear()


@pytest.fixture
def prod(platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Platform:
    """The platform as in production, with the provider's keys in a file: no network."""
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(JWKS))
    for name, value in {
        "ENVIRONMENT": "prod",
        "OIDC_ISSUER_URL": ISSUER,
        "OIDC_AUDIENCE": AUDIENCE,
        "OIDC_CLIENT_ID": CLIENT,
        "JWKS_LOCAL_PATH": str(path),
    }.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    return platform


def claims(tenant: UUID, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    known = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "azp": CLIENT,
        "sub": "4d3c",
        "tenant_id": str(tenant),
        "iat": now,
        "exp": now + 300,
    }
    return {name: value for name, value in (known | changes).items() if value is not None}


def sign(payload: Mapping[str, Any], key: Any = RSA, algorithm: str = "RS256", **header: Any) -> str:
    return jwt.encode(dict(payload), key, algorithm=algorithm, headers={"kid": "rsa"} | header)


async def ask(platform: Platform, token: str) -> Any:
    return await platform.call("routing", "GET", "/routing/models", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (RSA, "PS256", "rsa"), (EC, "ES256", "ec")]
)
async def test_a_token_that_the_provider_signed_is_taken(prod: Platform, key: Any, algorithm: str, kid: str) -> None:
    assert (await ask(prod, sign(claims(prod.tenants[0]), key, algorithm, kid=kid))).status == 200


def unsigned(payload: Mapping[str, Any]) -> str:
    def part(document: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'typ': 'JWT', 'kid': 'rsa'})}.{part(payload)}."


def attacks(tenant: UUID) -> dict[str, str]:
    """Return tokens that must be refused, by what is wrong with them."""
    good = claims(tenant)
    public = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header, payload, signature = sign(good).split(".")
    hmac = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "rsa"}).encode()).rstrip(b"=")
    return {
        "alg none": unsigned(good),
        "HS256 with the public key": f"{hmac.decode()}.{payload}.{_hmac(public, hmac, payload)}",
        "a secret of the set": jwt.encode(good, "secret" * 8, algorithm="HS256", headers={"kid": "secret"}),
        "a development token": issue_dev_token(secret=DEV_JWT_SECRET, tenant_id=tenant, subject="ann", issuer=ISSUER),
        "a stranger's key": sign(good, STRANGER),
        "wrong aud": sign(good | {"aud": "another-api"}),
        "no aud": sign(claims(tenant, aud=None)),
        "wrong iss": sign(good | {"iss": "https://idp.example.com/realms/other"}),
        "no iss": sign(claims(tenant, iss=None)),
        "wrong azp": sign(good | {"azp": "another-client"}),
        "no azp": sign(claims(tenant, azp=None)),
        "expired": sign(good | {"exp": int(time.time()) - 60}),
        "no exp": sign(claims(tenant, exp=None)),
        "not yet valid": sign(good | {"nbf": int(time.time()) + 60}),
        "unknown kid": sign(good, kid="unknown"),
        "no kid": jwt.encode(good, RSA, algorithm="RS256"),
        "kid with a path": sign(good, kid="../../../../etc/passwd"),
        "kid with a URL": sign(good, kid="https://evil.example.com/key"),
        "jku": sign(good, jku="https://evil.example.com/jwks.json"),
        "x5u": sign(good, x5u="https://evil.example.com/cert.pem"),
        "jwk": sign(good, STRANGER, jwk=jwk(STRANGER, "rsa")),
        "crit": sign(good, crit=["exp"]),
        "no tenant": sign(claims(tenant, tenant_id=None)),
        "tenant that is no id": sign(good | {"tenant_id": "alpha"}),
        "tenants": sign(good | {"tenant_id": [str(tenant)]}),
        "no subject": sign(claims(tenant, sub=None)),
        "empty subject": sign(good | {"sub": ""}),
        "roles that are no list": sign(good | {"roles": "admin"}),
        "truncated": f"{header}.{payload}.{signature[:-8]}",
        "another payload": f"{header}.{payload[:-6]}AAAAAA.{signature}",
        "two parts": f"{header}.{payload}",
        "a megabyte": sign(good | {"padding": "x" * 1_000_000}),
        "rubbish": "\x01\x02",
    }


def _hmac(key: bytes, *parts: bytes | str) -> str:
    import hashlib
    import hmac

    message = b".".join(part if isinstance(part, bytes) else part.encode() for part in parts)
    return base64.urlsafe_b64encode(hmac.new(key, message, hashlib.sha256).digest()).rstrip(b"=").decode()


@pytest.mark.parametrize("attack", attacks(UUID(int=0)))
async def test_a_forged_or_foreign_token_is_refused(
    prod: Platform, attack: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = attacks(prod.tenants[0])[attack]
    reply = await ask(prod, token)
    assert (reply.status, reply.code()) == (401, "unauthenticated")
    assert "www-authenticate" in reply.headers
    assert token not in caplog.text


async def test_claims_may_stand_elsewhere(prod: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OIDC_TENANT_CLAIM", "organisation.id")
    monkeypatch.setenv("OIDC_ROLES_CLAIM", "realm_access.roles")
    get_settings.cache_clear()
    nested = claims(prod.tenants[0], tenant_id=None) | {
        "organisation": {"id": str(prod.tenants[0])},
        "realm_access": {"roles": ["member"]},
    }
    assert (await ask(prod, sign(nested))).status == 200
    assert (await ask(prod, sign(claims(prod.tenants[0])))).status == 401


async def test_in_dev_the_providers_tokens_are_taken_as_well(prod: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "dev")
    get_settings.cache_clear()
    assert (await ask(prod, sign(claims(prod.tenants[0])))).status == 200


class Provider:
    """A key set that counts how often it is fetched."""

    def __init__(self, *documents: Any) -> None:
        self.documents = list(documents)
        self.fetches = 0

    async def load(self) -> Mapping[str, Any]:
        self.fetches += 1
        document = self.documents.pop(0) if len(self.documents) > 1 else self.documents[0]
        if isinstance(document, Exception):
            raise document
        return dict(document)


async def test_a_flood_of_unknown_key_ids_makes_no_flood_of_fetches() -> None:
    provider = Provider(JWKS)
    keys = KeySet(provider.load)
    await keys.find("rsa")
    for number in range(100):
        with pytest.raises(TokenError):
            await keys.find(f"unknown-{number}")
    assert provider.fetches == 1


async def test_many_first_tokens_at_once_make_one_fetch() -> None:
    provider = Provider(JWKS)
    keys = KeySet(provider.load)
    await asyncio.gather(*(keys.find("rsa") for _ in range(50)))
    assert provider.fetches == 1


async def test_a_rotated_key_is_found_and_the_old_one_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "REFRESH_SECONDS", 0.0)
    provider = Provider({"keys": [jwk(RSA, "old")]}, {"keys": [jwk(STRANGER, "new")]})
    keys = KeySet(provider.load)
    await keys.find("old")
    await keys.find("new")
    with pytest.raises(TokenError):
        await keys.find("old")


async def test_while_the_provider_is_down_its_known_keys_go_on_being_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(oidc, "MAX_AGE_SECONDS", 0.0)
    provider = Provider(JWKS, OSError("down"), {"keys": "nonsense"}, {"keys": [{"kty": "RSA", "kid": "rsa"}]})
    keys = KeySet(provider.load)
    for _ in range(4):
        assert (await keys.find("rsa")).key_type == "RSA"
    assert provider.fetches == 4


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The URL of an OpenID Connect provider in a process of its own."""
    port = ports.free(["provider"])["provider"]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None
                assert time.monotonic() < deadline, "the provider does not listen"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@dataclass
class LoggedIn:
    """What the provider hands to a client after a login."""

    id_token: str


async def log_in(provider: str, subject: str, user: Mapping[str, Any]) -> LoggedIn:
    """Log a user in by the authorization code flow, as a front end does."""
    redirect = "http://localhost/callback"
    query = {"client_id": AUDIENCE, "redirect_uri": redirect, "response_type": "code", "scope": "openid"}
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{provider}/users/{subject}", json=dict(user)) as response:
            assert response.status == 204
        async with session.post(
            f"{provider}/oauth2/authorize", params=query, data={"sub": subject}, allow_redirects=False
        ) as response:
            code = response.headers["Location"].partition("code=")[2].partition("&")[0]
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "client_id": AUDIENCE,
            "client_secret": "any",
        }
        async with session.post(f"{provider}/oauth2/token", data=form) as response:
            return LoggedIn((await response.json())["id_token"])


async def test_who_logs_in_at_the_provider_is_known_to_the_platform(
    platform: Platform, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ENVIRONMENT": "prod", "OIDC_ISSUER_URL": provider, "OIDC_AUDIENCE": AUDIENCE}.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    user = {"tenant_id": str(platform.tenants[0]), "azp": CLIENT, "roles": ["member"]}
    token = (await log_in(provider, "maria", user)).id_token
    headers = {"Authorization": f"Bearer {token}"}
    asked = await platform.call("chat", "POST", "/chat", {"message": "Hello", "stream": False}, headers=headers)
    assert asked.status == 202
    with platform.database.connect() as operator:
        assert operator.query("SELECT subject FROM core.users") == [("maria",)]
    stranger = (await log_in(provider, "eve", user | {"azp": "another"})).id_token
    assert (await ask(platform, stranger)).status == 401


async def test_a_provider_that_calls_itself_otherwise_is_not_believed(
    platform: Platform, provider: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "prod")
    monkeypatch.setenv("OIDC_ISSUER_URL", provider + "/")
    get_settings.cache_clear()
    user = {"tenant_id": str(platform.tenants[0]), "azp": CLIENT}
    token = (await log_in(provider, "maria", user)).id_token
    assert (await ask(platform, token)).status == 401
    assert "JWKS fetch failed" in caplog.text
