"""Tokens of an identity provider: taken from a real one. What must be refused stands in test_attacks.py."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from infra.local import ports
from shared import oidc
from shared.auth import provider_keys
from shared.oidc import KeySet, TokenError
from shared.settings import get_settings
from tests.functions.identity_provider import AUDIENCE, CLIENT, EC, JWKS, RSA, STRANGER, claims, jwk, sign
from tests.functions.platform import Platform


@pytest.fixture(autouse=True)
def _no_keys_of_another_test() -> Iterator[None]:
    provider_keys.cache_clear()
    yield
    provider_keys.cache_clear()


async def ask(platform: Platform, token: str) -> Any:
    return await platform.call("routing", "GET", "/routing/models", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (RSA, "PS256", "rsa"), (EC, "ES256", "ec")]
)
async def test_a_token_that_the_provider_signed_is_taken(prod: Platform, key: Any, algorithm: str, kid: str) -> None:
    assert (await ask(prod, sign(claims(prod.tenants[0]), key, algorithm, kid=kid))).status == 200


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
        await asyncio.sleep(0.01)
    assert provider.fetches == 4


async def test_a_provider_that_hangs_keeps_nobody_waiting_who_has_a_known_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(oidc, "MAX_AGE_SECONDS", 0.0)
    hanging, begun = asyncio.Event(), 0

    async def load() -> Mapping[str, Any]:
        nonlocal begun
        begun += 1
        if begun > 1:
            await hanging.wait()
        return JWKS

    keys = KeySet(load)
    await keys.find("rsa")
    async with asyncio.timeout(30):
        for _ in range(5):
            await keys.find("rsa")
            await asyncio.sleep(0)
    assert begun == 2, "one renewal is under way"
    hanging.set()
    await asyncio.sleep(0.01)


async def test_a_key_that_signs_nothing_does_not_take_the_others_along() -> None:
    odd: list[dict[str, Any]] = [
        {"kty": "OKP", "crv": "X25519", "kid": "exchange", "x": "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo"},
        jwk(RSA, "encryption") | {"alg": "RSA-OAEP"},
        {"kty": "RSA", "kid": "broken"},
    ]
    for entry in odd:
        entry.pop("use", None)
    keys = KeySet(Provider({"keys": [*odd, jwk(EC, "ec")]}).load)
    assert (await keys.find("ec")).key_type == "EC"
    with pytest.raises(TokenError):
        await keys.find("broken")


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
