"""Every known attack on tokens and API keys is refused, leaves one entry in the right audit log, and learns nothing."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from shared import audit
from shared.api_keys import ApiKey
from shared.auth import issue_dev_token
from shared.settings import DEV_JWT_SECRET, get_settings
from tests.functions.asgi import Reply, call
from tests.functions.conftest import close
from tests.functions.identity_provider import ISSUER, RSA, STRANGER, claims, encoded, jwk, sign
from tests.functions.leaks import Watch
from tests.functions.platform import PLATFORM_CHAIN, Entry, Platform

OPERATION = "routing.models"
LEARNT = {
    "The token is not valid.",
    "The API key is not valid.",
    "The Authorization header holds no bearer token.",
    "Send exactly one Authorization header with a bearer token or API key.",
}
"""All that a 401 says: of which kind the credential was."""
WINDOW = 16
"""So many characters in a row of a credential are a part of it."""
INVALID = (401, "unauthenticated")


@pytest.fixture(autouse=True)
def allowance(monkeypatch: pytest.MonkeyPatch) -> audit.Allowance:
    """An allowance of entries that no other test has used."""
    fresh = audit.Allowance()
    monkeypatch.setattr(audit, "allowances", {"login": fresh, "access": fresh})
    return fresh


def unsigned(payload: Mapping[str, Any], algorithm: str = "none") -> str:
    return f"{encoded({'alg': algorithm, 'typ': 'JWT', 'kid': 'rsa'})}.{encoded(payload)}."


def with_hmac(payload: Mapping[str, Any], key: bytes) -> str:
    message = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': 'rsa'})}.{encoded(payload)}"
    signature = hmac.new(key, message.encode(), hashlib.sha256).digest()
    return f"{message}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def raw(header: bytes, payload: Mapping[str, Any]) -> str:
    """Return a token with a header that no library would write."""
    return f"{base64.urlsafe_b64encode(header).rstrip(b'=').decode()}.{encoded(payload)}.c2lnbmF0dXJl"


def tokens(tenant: UUID) -> dict[str, tuple[str, str]]:
    """Return tokens that must be refused, by what is wrong with them; each with the reason that operators find."""
    good = claims(tenant)
    now = int(time.time())
    public = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header, payload, signature = sign(good).split(".")
    other = "https://idp.example.com/realms/other"
    subject = "the claim sub is no subject"
    return {
        "alg none": (unsigned(good), "InvalidAlgorithmError"),
        "alg None": (unsigned(good, "None"), "InvalidAlgorithmError"),
        "no alg": (raw(b'{"kid": "rsa"}', good), "InvalidAlgorithmError"),
        "alg that is a list": (raw(b'{"alg": ["RS256"], "kid": "rsa"}', good), "InvalidAlgorithmError"),
        "HS256 with the public key": (with_hmac(good, public), "InvalidAlgorithmError"),
        "HS256 with the published key": (
            with_hmac(good, json.dumps(jwk(RSA, "rsa")).encode()), "InvalidAlgorithmError",
        ),
        "HS256 with nothing": (with_hmac(good, b""), "InvalidAlgorithmError"),
        "a secret of the set": (
            jwt.encode(good, "secret" * 8, algorithm="HS256", headers={"kid": "secret"}), "no key of that id",
        ),
        "a development token": (
            issue_dev_token(secret=DEV_JWT_SECRET, tenant_id=tenant, subject="ann", issuer=ISSUER), "no key of that id",
        ),
        "a development token with a kid": (with_hmac(good, DEV_JWT_SECRET.encode()), "InvalidAlgorithmError"),
        "another realm's key under our kid": (sign(good, STRANGER), "InvalidSignatureError"),
        "another realm's key and kid": (sign(good, STRANGER, kid="other-realm"), "no key of that id"),
        "another realm's token": (
            sign(good | {"iss": other}, STRANGER, kid="other-realm"), "no key of that id",
        ),
        "another realm's token under our kid": (sign(good | {"iss": other}, STRANGER), "InvalidSignatureError"),
        "another kind of key": (jwt.encode(good, RSA, algorithm="RS256", headers={"kid": "ec"}), "InvalidAlgorithmError"),
        "wrong aud": (sign(good | {"aud": "another-api"}), "InvalidAudienceError"),
        "other auds": (sign(good | {"aud": ["another-api", "account"]}), "InvalidAudienceError"),
        "no aud": (sign(claims(tenant, aud=None)), '"aud"'),
        "wrong iss": (sign(good | {"iss": other}), "InvalidIssuerError"),
        "iss with a slash more": (sign(good | {"iss": f"{ISSUER}/"}), "InvalidIssuerError"),
        "no iss": (sign(claims(tenant, iss=None)), '"iss"'),
        "wrong azp": (sign(good | {"azp": "another-client"}), "azp"),
        "no azp": (sign(claims(tenant, azp=None)), "azp"),
        "expired": (sign(good | {"exp": now - 60}), "ExpiredSignatureError"),
        "no exp": (sign(claims(tenant, exp=None)), '"exp"'),
        "exp that is no number": (sign(good | {"exp": "tomorrow"}), "DecodeError"),
        "not yet valid": (sign(good | {"nbf": now + 60}), "ImmatureSignatureError"),
        "issued in the future": (sign(good | {"iat": now + 60}), "ImmatureSignatureError"),
        "unknown kid": (sign(good, kid="unknown"), "no key of that id"),
        "no kid": (jwt.encode(good, RSA, algorithm="RS256"), "no key of that id"),
        "empty kid": (sign(good, kid=""), "no key of that id"),
        "kid with a path": (sign(good, kid="../../../../etc/passwd"), "no key of that id"),
        "kid with a URL": (sign(good, kid="https://evil.example.com/key"), "no key of that id"),
        "kid with SQL": (sign(good, kid="rsa' OR '1'='1"), "no key of that id"),
        "kid with NUL": (sign(good, kid="rsa\0"), "no key of that id"),
        "kid that is a number": (raw(b'{"alg": "RS256", "kid": 1}', good), "InvalidTokenError"),
        "jku": (sign(good, jku="https://evil.example.com/jwks.json"), "header jku"),
        "x5u": (sign(good, x5u="https://evil.example.com/cert.pem"), "header x5u"),
        "jwk": (sign(good, STRANGER, jwk=jwk(STRANGER, "rsa")), "header jwk"),
        "x5c": (sign(good, STRANGER, x5c=["MIIB"]), "header x5c"),
        "crit": (sign(good, crit=["exp"]), "crit"),
        "payload apart": (raw(b'{"alg": "RS256", "kid": "rsa", "b64": false}', good), "DecodeError"),
        "header that is a list": (raw(b"[]", good), "DecodeError"),
        "header that is deep": (raw(b"[" * 4000, good), "Error"),
        "header with a long number": (raw(b'{"alg": ' + b"1" * 5000 + b"}", good), "DecodeError"),
        "header that is no UTF-8": (raw(b'{"alg": "\xff"}', good), "DecodeError"),
        "no tenant": (sign(claims(tenant, tenant_id=None)), "the claim tenant_id is no tenant's id"),
        "tenant that is no id": (sign(good | {"tenant_id": "alpha"}), "the claim tenant_id is no tenant's id"),
        "tenants": (sign(good | {"tenant_id": [str(tenant)]}), "the claim tenant_id is no tenant's id"),
        "no subject": (sign(claims(tenant, sub=None)), '"sub"'),
        "empty subject": (sign(good | {"sub": ""}), subject),
        "long subject": (sign(good | {"sub": "s" * 256}), subject),
        "subject with NUL": (sign(good | {"sub": "ann\0"}), subject),
        "subject with a lone surrogate": (sign(good | {"sub": "ann\ud800"}), subject),
        "subject that is a number": (raw_signed(good | {"sub": 5}), "InvalidSubjectError"),
        "roles that are no list": (sign(good | {"roles": "tenant_admin"}), "the claim roles is no list"),
        "groups that are no list": (sign(good | {"groups": {"a": 1}}), "the claim groups is no list"),
        "truncated": (f"{header}.{payload}.{signature[:-6]}", "InvalidSignatureError"),
        "no signature": (f"{header}.{payload}.", "InvalidSignatureError"),
        "another payload": (f"{header}.{encoded(good | {'sub': 'root'})}.{signature}", "InvalidSignatureError"),
        "another header": (
            f"{encoded({'alg': 'RS512', 'typ': 'JWT', 'kid': 'rsa'})}.{payload}.{signature}", "InvalidSignatureError",
        ),
        "two parts": (f"{header}.{payload}", "DecodeError"),
        "five parts": (f"{header}.{payload}.{signature}.a.b", "DecodeError"),
        "two tokens": (f"{sign(good)} {sign(good)}", "DecodeError"),
        "a megabyte": (sign(good | {"padding": "x" * 1_000_000}), "no bearer token, or a longer one than any"),
        "rubbish": ("\x01\x02", "DecodeError"),
    }  # fmt: skip


def raw_signed(payload: Mapping[str, Any]) -> str:
    """Sign claims that the library would not."""
    return jwt.PyJWS().encode(json.dumps(payload).encode(), RSA, algorithm="RS256", headers={"kid": "rsa"})


@dataclass(frozen=True)
class Scene:
    """A platform under attack, and what an attacker may have got hold of."""

    platform: Platform
    watch: Watch

    @property
    def tenant(self) -> UUID:
        return self.platform.tenants[0]

    def token(self, subject: str, *roles: str, tenant: UUID | None = None) -> str:
        """Return a good token of the provider."""
        return sign(claims(tenant or self.tenant, sub=subject, roles=list(roles)))

    async def does(
        self, subject: str, method: str, url: str, document: object = None, roles: Sequence[str] = ("tenant_admin",)
    ) -> Any:
        """Do something that is allowed, and return what is answered."""
        token = self.token(subject, *roles)
        headers = {"Authorization": f"Bearer {token}"}
        reply = await self.platform.call("identity", method, url, document, headers=headers)
        assert reply.status in {200, 201}, reply
        return reply.json()

    async def key(self, subject: str = "bob", **fields: object) -> ApiKey:
        """Return a new key of a user."""
        made = await self.does(subject, "POST", "/keys", {"name": "a script", **fields})
        key = ApiKey.parse(made["key"])
        assert key is not None
        return key

    def ends(self, column: str, key: ApiKey) -> None:
        """Let the time come that a column of a key names."""
        with self.platform.database.connect() as operator:
            statement = (
                f"UPDATE core.api_keys SET {column} = now() - interval '1 second' WHERE (tenant_id, id) = (%s, %s)"
            )
            assert operator.run(statement, [key.tenant_id, key.key_id]) == 1

    def suspend(self) -> None:
        """Suspend the tenant."""
        with self.platform.database.connect() as operator:
            assert operator.run("UPDATE core.tenants SET suspended_at = now() WHERE id = %s", [self.tenant]) == 1

    async def user_id(self, subject: str) -> str:
        """Return a user's id."""
        me = await self.does(subject, "GET", "/me")
        return str(me["user"]["id"])

    async def ask(self, *credentials: str) -> Reply:
        """Make a request that any member may make, with these in its Authorization headers."""
        headers = [("Authorization", f"Bearer {credential}") for credential in credentials]
        return await call(self.platform.serve("routing"), "GET", "/routing/models", headers)

    def rows(self) -> dict[str, int]:
        """Return how many rows there are besides the audit log's."""
        with self.platform.database.connect() as operator:
            return self.platform.counts() | {"core.users": operator.value("SELECT count(*) FROM core.users")}

    def chains(self) -> dict[UUID, int]:
        """Return the last entry of every log that may be written to."""
        with self.platform.database.connect() as operator:
            heads: dict[UUID, int] = dict(operator.query("SELECT tenant_id, seq FROM compliance.audit_heads"))
        return {chain: heads.get(chain, 0) for chain in (PLATFORM_CHAIN, *self.platform.tenants)}

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what was logged under a name."""
        return [entry for line in self.watch.lines if (entry := json.loads(line))["event"] == name]

    async def refused(self, credentials: Sequence[str], chain: UUID, action: str) -> tuple[Reply, Entry]:
        """Attack; return the answer and the one entry that was added to the log, which must be this one."""
        rows, chains = self.rows(), self.chains()
        self.watch.lines.clear()
        reply = await self.ask(*credentials)
        assert reply.status in {401, 403}, reply
        added = {name: self.platform.audited(name, after) for name, after in chains.items()}
        assert {name: len(entries) for name, entries in added.items() if entries} == {chain: 1}, added
        [entry] = added[chain]
        assert (entry.action, entry.object) == (action, OPERATION)
        assert self.rows() == rows
        for credential in credentials:
            self.assert_untold(credential, reply.body.decode(), json.dumps(entry.data), *self.watch.lines)
        return reply, entry

    @staticmethod
    def assert_untold(credential: str, *texts: str) -> None:
        """Fail when a text holds a part of a credential."""
        text = "\n".join(texts)
        pieces = (credential[start : start + WINDOW] for start in range(min(len(credential), 20_000) - WINDOW))
        assert not [piece for piece in pieces if piece in text]


@pytest.fixture
def scene(prod: Platform, watch: Watch) -> Scene:
    return Scene(prod, watch)


def assert_learns_nothing(reply: Reply) -> None:
    """A 401 says of which kind the credential was, and how to send one."""
    document = reply.json()
    assert set(document) == {"type", "title", "status", "detail", "code"}
    assert document["detail"] in LEARNT
    assert reply.headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("attack", tokens(UUID(int=0)))
async def test_a_forged_or_foreign_token_is_refused(scene: Scene, attack: str) -> None:
    token, reason = tokens(scene.tenant)[attack]
    reply, entry = await scene.refused([token], PLATFORM_CHAIN, "login.refused")
    assert (reply.status, reply.code()) == INVALID
    assert_learns_nothing(reply)
    assert entry.actor == "unknown"
    assert reason in entry.data["reason"]
    [line] = scene.events("token_refused")
    assert reason in line["reason"]
    assert (line["operation"], line["tenant_id"]) == (OPERATION, None)


@pytest.mark.parametrize(
    ("exp", "nbf"), [(1e400, 0), (2**70, 0), (-1, 0), (10**9 * 4, 1e400)], ids=["endless", "long", "past", "never"]
)
async def test_a_token_with_a_time_beyond_all_bounds_makes_nothing_fail(scene: Scene, exp: float, nbf: float) -> None:
    assert (await scene.ask(sign(claims(scene.tenant, exp=exp, nbf=nbf)))).status in {200, 401}


async def test_two_credentials_are_refused_even_if_each_is_good(scene: Scene) -> None:
    token, key = scene.token("ann", "member"), (await scene.key()).text()
    for pair in ([token, token], [token, key], [key, token], [key, key]):
        reply, entry = await scene.refused(pair, PLATFORM_CHAIN, "login.refused")
        assert (reply.status, reply.code()) == INVALID
        assert_learns_nothing(reply)
        assert entry.data == {"reason": "several Authorization headers"}
    assert [(await scene.ask(credential)).status for credential in (token, key)] == [200, 200]


Prepare = Callable[[Scene], Awaitable[str]]


async def unknown_key(scene: Scene) -> str:
    return ApiKey.generate(scene.tenant).text()


async def revoked(scene: Scene) -> str:
    key = await scene.key()
    await scene.does("bob", "DELETE", f"/keys/{key.key_id}")
    return key.text()


async def revoked_with_a_wrong_secret(scene: Scene) -> str:
    key = await scene.key()
    await scene.does("bob", "DELETE", f"/keys/{key.key_id}")
    return ApiKey.generate(key.tenant_id, key.key_id).text()


async def expired(scene: Scene) -> str:
    key = await scene.key(expires_at="2999-01-01T00:00:00Z")
    scene.ends("expires_at", key)
    return key.text()


async def wrong_secret(scene: Scene) -> str:
    key = await scene.key()
    return ApiKey.generate(key.tenant_id, key.key_id).text()


async def another_keys_secret(scene: Scene) -> str:
    key, other = await scene.key(), await scene.key()
    return ApiKey(key.tenant_id, key.key_id, other.secret).text()


async def truncated(scene: Scene) -> str:
    return (await scene.key()).text()[:-1]


async def prolonged(scene: Scene) -> str:
    return (await scene.key()).text() + "A"


async def in_capitals(scene: Scene) -> str:
    key = await scene.key()
    return f"eak_{key.tenant_id.hex.upper()}_{key.key_id.hex}_{key.secret}"


async def of_another_tenant(scene: Scene) -> str:
    key = await scene.key()
    return ApiKey(scene.platform.tenants[1], key.key_id, key.secret).text()


async def of_an_unknown_tenant(scene: Scene) -> str:
    key = await scene.key()
    return ApiKey(uuid4(), key.key_id, key.secret).text()


async def of_a_disabled_user(scene: Scene) -> str:
    key = await scene.key()
    await scene.does("admin", "PATCH", f"/users/{await scene.user_id('bob')}", {"active": False})
    return key.text()


async def of_an_erased_user(scene: Scene) -> str:
    key = await scene.key()
    await scene.does("admin", "DELETE", f"/users/{await scene.user_id('bob')}")
    return key.text()


async def rotated(scene: Scene) -> str:
    key = await scene.key()
    await scene.does("bob", "POST", f"/keys/{key.key_id}/rotate", {})
    return key.text()


async def rotated_and_overlapped(scene: Scene) -> str:
    key = await scene.key()
    await scene.does("bob", "POST", f"/keys/{key.key_id}/rotate", {"overlap_seconds": 3600})
    assert (await scene.ask(key.text())).status == 200
    scene.ends("previous_until", key)
    return key.text()


async def rotated_twice(scene: Scene) -> str:
    key = await scene.key()
    for _ in range(2):
        await scene.does("bob", "POST", f"/keys/{key.key_id}/rotate", {"overlap_seconds": 3600})
    return key.text()


async def rotated_and_revoked(scene: Scene) -> str:
    key = await scene.key()
    await scene.does("bob", "POST", f"/keys/{key.key_id}/rotate", {"overlap_seconds": 3600})
    await scene.does("bob", "DELETE", f"/keys/{key.key_id}")
    return key.text()


KEYS: dict[str, tuple[Prepare, str, bool]] = {
    "unknown": (unknown_key, "unknown key", False),
    "revoked": (revoked, "revoked", True),
    "revoked, with a wrong secret": (revoked_with_a_wrong_secret, "wrong secret", False),
    "expired": (expired, "expired", True),
    "wrong secret": (wrong_secret, "wrong secret", False),
    "another key's secret": (another_keys_secret, "wrong secret", False),
    "truncated": (truncated, "malformed key", False),
    "prolonged": (prolonged, "malformed key", False),
    "in capitals": (in_capitals, "malformed key", False),
    "of another tenant": (of_another_tenant, "unknown key", False),
    "of an unknown tenant": (of_an_unknown_tenant, "unknown key", False),
    "of a disabled user": (of_a_disabled_user, "user disabled", True),
    "of an erased user": (of_an_erased_user, "unknown key", False),
    "rotated without an overlap": (rotated, "rotated", True),
    "after the overlap": (rotated_and_overlapped, "rotated", True),
    "before the last but one rotation": (rotated_twice, "wrong secret", False),
    "revoked within the overlap": (rotated_and_revoked, "revoked", True),
}
"""What prepares the key, the reason that operators find, and whether it is certain whose it is."""


@pytest.mark.parametrize("attack", KEYS)
async def test_a_key_that_is_good_no_more_or_never_was_is_refused(scene: Scene, attack: str) -> None:
    prepare, reason, certain = KEYS[attack]
    text = await prepare(scene)
    reply, entry = await scene.refused([text], scene.tenant if certain else PLATFORM_CHAIN, "login.refused")
    assert (reply.status, reply.code()) == INVALID
    assert_learns_nothing(reply)
    assert entry.data["reason"].partition(": ")[0] == reason
    [line] = scene.events("token_refused")
    assert line["reason"] == entry.data["reason"]
    assert line["tenant_id"] == (str(scene.tenant) if certain else None)


async def token_of_a_disabled_user(scene: Scene) -> str:
    await scene.does("admin", "PATCH", f"/users/{await scene.user_id('bob')}", {"active": False})
    return scene.token("bob", "tenant_admin")


async def token_of_a_suspended_tenant(scene: Scene) -> str:
    scene.suspend()
    return scene.token("bob", "tenant_admin")


async def key_of_a_suspended_tenant(scene: Scene) -> str:
    key = await scene.key()
    scene.suspend()
    return key.text()


async def token_of_an_unknown_tenant(scene: Scene) -> str:
    return scene.token("bob", "platform_admin", tenant=uuid4())


async def token_of_the_nil_tenant(scene: Scene) -> str:
    return scene.token("bob", "platform_admin", tenant=PLATFORM_CHAIN)


async def token_without_the_role(scene: Scene) -> str:
    return scene.token("bob", "auditor")


async def key_without_the_scope(scene: Scene) -> str:
    return (await scene.key(scopes=["chat"])).text()


async def key_whose_user_lost_the_role(scene: Scene) -> str:
    key = await scene.key()
    await scene.does("bob", "GET", "/me", roles=["auditor"])
    return key.text()


async def token_in_the_name_of_a_service_account(scene: Scene) -> str:
    await scene.does("admin", "POST", "/users", {"name": "nightly"})
    return scene.token("service:nightly", "tenant_admin")


ACCESS: dict[str, tuple[Prepare, tuple[int, str], bool]] = {
    "a disabled user's token": (token_of_a_disabled_user, (403, "user_disabled"), True),
    "a suspended tenant's token": (token_of_a_suspended_tenant, (403, "tenant_suspended"), True),
    "a suspended tenant's key": (key_of_a_suspended_tenant, (403, "tenant_suspended"), True),
    "an unknown tenant's token": (token_of_an_unknown_tenant, (403, "tenant_unset"), False),
    "the nil tenant's token": (token_of_the_nil_tenant, (403, "tenant_unset"), False),
    "a token without the role": (token_without_the_role, (403, "forbidden"), True),
    "a key without the scope": (key_without_the_scope, (403, "forbidden"), True),
    "a key whose user lost the role": (key_whose_user_lost_the_role, (403, "forbidden"), True),
    "a token in the name of a service account": (token_in_the_name_of_a_service_account, INVALID, True),
}
"""What prepares the credential, the answer, and whether the tenant is one of ours."""


@pytest.mark.parametrize("attack", ACCESS)
async def test_somebody_who_is_known_and_may_not_is_refused(scene: Scene, attack: str) -> None:
    prepare, answer, certain = ACCESS[attack]
    credential = await prepare(scene)
    reply, entry = await scene.refused([credential], scene.tenant if certain else PLATFORM_CHAIN, "access.refused")
    assert (reply.status, reply.code()) == answer
    assert entry.data["reason"] == answer[1]
    subject = "service:nightly" if "service account" in attack else "bob"
    with scene.platform.database.connect() as operator:
        query = "SELECT 'user:' || id FROM core.users WHERE (tenant_id, subject) = (%s, %s)"
        found = operator.query(query, [scene.tenant, subject]) if certain else []
    assert entry.actor == (found[0][0] if found else "unknown")
    [line] = scene.events("request_refused")
    assert line["code"] == answer[1]


async def test_every_401_says_how_to_authenticate(scene: Scene) -> None:
    # RFC 9110, section 15.5.2: the server MUST send a WWW-Authenticate field.
    for credential in (ApiKey.generate(scene.tenant).text(), await token_in_the_name_of_a_service_account(scene)):
        reply = await scene.ask(credential)
        assert (reply.status, reply.code()) == INVALID
        assert "www-authenticate" in reply.headers


async def test_a_request_without_credentials_is_nobodys_attempt(scene: Scene) -> None:
    chains = scene.chains()
    reply = await scene.ask()
    assert (reply.status, reply.code()) == INVALID
    assert_learns_nothing(reply)
    assert scene.chains() == chains


async def test_an_entry_names_the_request_where_it_has_a_name(scene: Scene) -> None:
    names = {"r-1": "r-1", "a b": None, "x" * 65: None, "'; --": None, "": None}
    for given, kept in names.items():
        [after] = [seq for chain, seq in scene.chains().items() if chain == PLATFORM_CHAIN]
        headers = [("Authorization", "Bearer rubbish"), ("X-Request-Id", given)]
        await call(scene.platform.serve("routing"), "GET", "/routing/models", headers)
        [entry] = scene.platform.audited(after=after)
        assert entry.data.get("request_id") == kept


async def test_the_logs_stay_whole(scene: Scene) -> None:
    await asyncio.gather(*(scene.ask(sign(claims(scene.tenant), STRANGER)) for _ in range(20)))
    await asyncio.gather(*(scene.ask(scene.token("bob", "auditor")) for _ in range(20)))
    with scene.platform.database.connect() as operator:
        for chain in (PLATFORM_CHAIN, scene.tenant):
            assert operator.query("SELECT * FROM compliance.chain_breaks(%s)", [chain]) == []
    assert len(scene.platform.audited(scene.tenant)) == 20


class Clock:
    """Stands until it is moved."""

    now = 600.0

    def monotonic(self) -> float:
        return self.now


async def test_a_flood_of_refusals_does_not_fill_the_log(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(audit, "time", clock)
    monkeypatch.setattr(audit, "MAX_A_MINUTE", 3)
    after = scene.chains()[PLATFORM_CHAIN]

    async def flood(requests: int) -> list[dict[str, Any]]:
        nonlocal after
        replies = [await scene.ask(sign(claims(scene.tenant), STRANGER)) for _ in range(requests)]
        assert {reply.status for reply in replies} == {401}
        entries = scene.platform.audited(after=after)
        after += len(entries)
        return [entry.data for entry in entries]

    assert [data.get("suppressed_before") for data in await flood(8)] == [None, None, None]
    assert await flood(2) == []
    clock.now += 60
    assert [data.get("suppressed_before") for data in await flood(2)] == [7, None]
    clock.now += 60
    assert [data.get("suppressed_before") for data in await flood(1)] == [None]


def test_as_many_refusals_are_kept_as_are_promised(allowance: audit.Allowance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "time", Clock())
    assert [allowance.take() for _ in range(audit.MAX_A_MINUTE + 2)] == [True] * audit.MAX_A_MINUTE + [False] * 2
    assert allowance.suppressed == 2


async def test_while_the_database_is_away_refusals_stand_and_are_counted(
    scene: Scene, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await scene.key()
    after = scene.chains()[PLATFORM_CHAIN]
    await close()
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 0.1)
    with monkeypatch.context() as away:
        away.setenv("DATABASE_URL", f"postgresql://app:secret-of-app@127.0.0.1:{closed_port}/a")
        get_settings.cache_clear()
        for token in (sign(claims(scene.tenant), STRANGER), "eak_malformed_key_of_nobody"):
            reply = await scene.ask(token)
            assert (reply.status, reply.code()) == INVALID
            assert_learns_nothing(reply)
        for credential in (key.text(), ApiKey.generate(scene.tenant).text(), scene.token("ann", "member")):
            reply = await scene.ask(credential)
            assert (reply.status, reply.code()) == (503, "database_unavailable")
        assert [line["kind"] for line in scene.events("refusal_unaudited")] == ["login", "login"]
        await close()
    get_settings.cache_clear()
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 5.0)
    assert (await scene.ask(sign(claims(scene.tenant), STRANGER))).status == 401
    [entry] = scene.platform.audited(after=after)
    assert entry.data["suppressed_before"] == 2
    assert (await scene.ask(key.text())).status == 200
