"""Every route of every function, with every role: what core.operations() says is what happens, and nothing else."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from tests import support
from tests.functions.asgi import Reply, call
from tests.functions.conftest import SOURCES, serve
from tests.functions.platform import Platform

ROLES = ("platform_admin", "tenant_admin", "member", "viewer", "auditor", "service")
ANYONE = "anyone"
"""Whoever has a good token or key, whatever the roles."""
EVENT_FUNCTIONS = {"bury", "embed", "infer", "ingest", "maintain", "probe", "sweep"}
PUBLIC = {("GET", "/health"), ("GET", "/saml/metadata")}
DEFAULT_ROLE = "member"
JSON = {"Content-Type": "application/json"}

Route = tuple[str, str]


@dataclass(frozen=True)
class Example:
    """A request that is right in every way, so that only a right that is missing can refuse it.

    What stands in braces is the caller's own: see `own`. `query` is by role where roles ask for different things.
    """

    url: str
    document: object = None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    query: Mapping[str, str] = field(default_factory=dict)

    async def ask(self, function: str, method: str, credential: Mapping[str, str], own: "Own", role: str) -> Reply:
        """Make the request."""
        url = self.url.format_map(own) + self.query.get(role, "")
        body = self.body if self.document is None else json.dumps(filled(self.document, own)).encode()
        return await call(serve(function), method, url, {**self.headers, **credential}, body)


Own = dict[str, str]


def filled(document: object, own: Own) -> object:
    """Return a document in which the caller's own stands for what is in braces."""
    if not isinstance(document, dict):
        return document
    return {name: value.format_map(own) if isinstance(value, str) else value for name, value in document.items()}


PLATFORMS_LOG = {"platform_admin": "?platform=true"}
"""The tenant's log is not a platform_admin's."""
EXAMPLES: dict[Route, Example] = {
    ("POST", "/chat"): Example("/chat", {"message": "What is the limit?", "stream": False}),
    ("GET", "/turns/{turn_id}"): Example("/turns/{stopped_turn}"),
    ("GET", "/turns/{turn_id}/trace"): Example("/turns/{stopped_turn}/trace"),
    ("GET", "/turns/{turn_id}/stream"): Example("/turns/{stopped_turn}/stream"),
    ("POST", "/turns/{turn_id}/stop"): Example("/turns/{open_turn}/stop"),
    ("GET", "/conversations/{conversation_id}/shares"): Example("/conversations/{conversation}/shares"),
    ("PUT", "/conversations/{conversation_id}/shares"): Example(
        "/conversations/{conversation}/shares", {"groups": ["a"]}
    ),
    ("POST", "/turns/{turn_id}/regenerate"): Example("/turns/{stopped_turn}/regenerate", {"stream": False}),
    ("GET", "/conversations"): Example("/conversations"),
    ("GET", "/conversations/search"): Example("/conversations/search?q=limit"),
    ("GET", "/conversations/{conversation_id}"): Example("/conversations/{conversation}"),
    ("GET", "/conversations/{conversation_id}/export"): Example("/conversations/{conversation}/export"),
    ("PATCH", "/conversations/{conversation_id}"): Example("/conversations/{conversation}", {"title": "Limits"}),
    ("DELETE", "/conversations/{conversation_id}"): Example("/conversations/{conversation}"),
    ("POST", "/documents"): Example("/documents?name=b.md", body=b"Text.", headers={"Content-Type": "text/markdown"}),
    ("GET", "/documents"): Example("/documents"),
    ("GET", "/documents/{document_id}"): Example("/documents/{document}"),
    ("PUT", "/documents/{collection}/{name}"): Example(
        "/documents/default/c.md", body=b"Text.", headers={"Content-Type": "text/markdown"}
    ),
    ("GET", "/documents/{document_id}/content"): Example("/documents/{document}/content"),
    ("GET", "/documents/{document_id}/text"): Example("/documents/{indexed}/text?start=1&end=3"),
    ("GET", "/documents/{document_id}/progress"): Example("/documents/{indexed}/progress"),
    ("POST", "/documents/{document_id}/retry"): Example("/documents/{failed}/retry"),
    ("POST", "/documents/retry"): Example("/documents/retry?collection=default"),
    ("DELETE", "/documents/{document_id}"): Example("/documents/{indexed}"),
    ("GET", "/progress"): Example("/progress?collection={collection}"),
    ("GET", "/collections"): Example("/collections"),
    ("PUT", "/collections/{collection}"): Example("/collections/{collection}", {"visibility": "restricted"}),
    ("GET", "/collections/{collection}/grants"): Example("/collections/{collection}/grants"),
    ("PUT", "/collections/{collection}/grants"): Example(
        "/collections/{collection}/grants", {"grants": [{"group": "staff", "access": "read"}]}
    ),
    ("DELETE", "/collections/{collection}"): Example("/collections/{collection}"),
    ("GET", "/buckets"): Example("/buckets"),
    ("PUT", "/buckets"): Example("/buckets", {"bucket": "{bucket}", "prefix": "docs/hr/", "collection": "default"}),
    ("DELETE", "/buckets"): Example("/buckets?bucket={bucket}&prefix=docs/hr/"),
    ("POST", "/buckets/notifications"): Example("/buckets/notifications", {"Records": []}),
    ("GET", "/search"): Example("/search?q=vacation"),
    ("POST", "/search"): Example("/search", {"q": "vacation"}),
    ("GET", "/search/settings"): Example("/search/settings"),
    ("PUT", "/search/settings"): Example("/search/settings", {"text_weight": 0.9}),
    ("POST", "/routing/explain"): Example("/routing/explain", {"message": "What?"}),
    ("GET", "/routing/models"): Example("/routing/models"),
    ("GET", "/routing/rules"): Example("/routing/rules"),
    ("GET", "/routing/health"): Example("/routing/health"),
    ("GET", "/aliases"): Example("/aliases"),
    ("PUT", "/aliases"): Example("/aliases", {"name": "rules", "model": "standard", "collections": ["default"]}),
    ("DELETE", "/aliases/{alias}"): Example("/aliases/{alias}"),
    ("POST", "/v1/chat/completions"): Example(
        "/v1/chat/completions",
        {"model": "light", "messages": [{"role": "user", "content": "What is the limit?"}], "max_tokens": 10},
    ),
    ("GET", "/v1/models"): Example("/v1/models"),
    ("GET", "/v1/models/{model}"): Example("/v1/models/auto"),
    ("POST", "/v1/embeddings"): Example("/v1/embeddings", {"input": "a pump"}),
    ("GET", "/usage"): Example("/usage?since=2026-01-01&until=2026-01-31"),
    ("GET", "/budgets"): Example("/budgets"),
    ("PUT", "/budgets"): Example(
        "/budgets", {"scope": "user", "holder_id": "{user}", "period": "day", "tokens": 100_000}
    ),
    ("POST", "/budgets/top-up"): Example(
        "/budgets/top-up", {"scope": "user", "holder_id": "{user}", "period": "day", "tokens": 1}
    ),
    ("GET", "/me"): Example("/me"),
    ("GET", "/tenant"): Example("/tenant"),
    ("PATCH", "/tenant"): Example("/tenant", {"name": "Alpha & Co."}),
    ("POST", "/keys"): Example("/keys", {"name": "a script"}),
    ("GET", "/keys"): Example("/keys"),
    ("POST", "/keys/{key_id}/rotate"): Example("/keys/{key}/rotate", {}),
    ("DELETE", "/keys/{key_id}"): Example("/keys/{key}"),
    ("GET", "/users"): Example("/users"),
    ("GET", "/users/{user_id}"): Example("/users/{user}"),
    ("POST", "/users"): Example("/users", {"name": "nightly"}),
    ("PATCH", "/users/{user_id}"): Example("/users/{user}", {"active": True}),
    ("DELETE", "/users/{user_id}"): Example("/users/{other_user}"),
    ("GET", "/roles"): Example("/roles"),
    ("GET", "/roles/grants"): Example("/roles/grants"),
    ("PUT", "/roles/grants"): Example("/roles/grants", {"group": "staff", "roles": ["viewer"]}),
    ("GET", "/tenants"): Example("/tenants"),
    ("POST", "/tenants"): Example("/tenants", {"slug": "gamma", "name": "Gamma"}),
    ("PATCH", "/tenants/{tenant_id}"): Example("/tenants/{other_tenant}", {"name": "Beta"}),
    ("GET", "/regions"): Example("/regions"),
    ("PUT", "/regions/{region}"): Example("/regions/{other_region}", {"url": "https://{{function}}.example"}),
    ("PUT", "/tenants/{tenant_id}/home"): Example("/tenants/{absent_tenant}/home", {"region": "{other_region}"}),
    ("GET", "/tenants/{tenant_id}/home"): Example("/tenants/{absent_tenant}/home"),
    ("DELETE", "/tenants/{tenant_id}/home"): Example("/tenants/{absent_tenant}/home"),
    ("DELETE", "/regions/{region}"): Example("/regions/{other_region}"),
    ("GET", "/audit"): Example("/audit", query=PLATFORMS_LOG),
    ("GET", "/audit/verify"): Example("/audit/verify", query=PLATFORMS_LOG),
}
"""In an order in which none takes away what a later one needs."""


async def described() -> dict[Route, tuple[str, str]]:
    """Return function and permission of every route, as the functions' own documents tell them."""
    found: dict[Route, tuple[str, str]] = {}
    for function in SOURCES:
        reply = await call(serve(function), "GET", "/openapi.json")
        if function in EVENT_FUNCTIONS:
            assert reply.code() == "malformed_event"
            continue
        for path, methods in reply.json()["paths"].items():
            for method, operation in methods.items():
                assert (method.upper(), path) not in found
                found[method.upper(), path] = function, operation["x-permission"]
    return found


def operations(platform: Platform) -> dict[str, set[str]]:
    """Return the roles that may call each operation."""
    with platform.database.connect() as operator:
        return {name: set(roles) for name, roles in operator.query("SELECT name, roles FROM core.operations()")}


@pytest.fixture(params=[DEFAULT_ROLE, ""], ids=["default role", "no default role"])
def default_role(request: pytest.FixtureRequest, platform: Platform) -> Iterator[str]:
    """The role of those who have none: OIDC_DEFAULT_ROLE."""
    role: str = request.param
    statement = "UPDATE ops.settings SET value = %s WHERE name = 'oidc_default_role'"
    with platform.database.connect() as operator:
        assert operator.run(statement, [role]) == 1
        yield role
        operator.run(statement, [DEFAULT_ROLE])


async def test_every_route_has_an_example(platform: Platform) -> None:
    assert platform
    routes = await described()
    assert {route for route, (_, permission) in routes.items() if permission == "public"} == PUBLIC
    assert set(EXAMPLES) == set(routes) - PUBLIC


async def test_every_operation_has_a_route_and_every_route_an_operation(platform: Platform) -> None:
    permissions = {permission for _, permission in (await described()).values()} - {"public"}
    assert permissions == set(operations(platform))
    assert set().union(*operations(platform).values()) == {*ROLES, ANYONE}


def bearer(platform: Platform, *roles: str) -> dict[str, str]:
    """Return the Authorization header of a token that names roles."""
    return support.bearer(platform.tenants[0], roles=roles)


async def make_own(platform: Platform, credential: Mapping[str, str]) -> Own:
    """Let a caller who may do everything make what the examples name."""

    async def does(function: str, method: str, url: str, document: object = None, **headers: str) -> Any:
        sent = {**JSON, **credential, **headers}
        body = b"Text." if headers else b"" if document is None else json.dumps(document).encode()
        reply = await call(serve(function), method, url, sent, body)
        assert reply.status in {200, 201, 202}, reply
        return reply.json()

    question = {"message": "What is the limit?", "stream": False}
    stopped, open_turn = await does("chat", "POST", "/chat", question), await does("chat", "POST", "/chat", question)
    await does("chat", "POST", f"/turns/{stopped['turn_id']}/stop")
    upload = {"Content-Type": "text/plain"}
    others = []
    for subject in ("bob", "eve"):
        me = await platform.call("identity", "GET", "/me", headers=platform.bearer(subject))
        others.append(me.json()["user"]["id"])
    document = await does("ingestion", "POST", "/documents?name=a.md", **upload)
    indexed = await does("ingestion", "POST", "/documents?name=indexed.md", **upload)
    failed = await does("ingestion", "POST", "/documents?name=failed.md", **upload)
    with platform.database.connect() as operator:
        operator.run("UPDATE rag.documents SET status = 'indexed', live_version = 1 WHERE name = 'indexed.md'")
        operator.run("UPDATE rag.contents SET body = 'Text.' WHERE document_id = %s", [indexed["id"]])
        operator.run("UPDATE rag.documents SET status = 'failed', error_code = 'x' WHERE name = 'failed.md'")
    await does("ingestion", "PUT", "/collections/own", {"description": "My own."})
    await does("ingestion", "PUT", "/buckets", {"bucket": "company", "prefix": "docs/"})
    alias = {"name": "handbook", "model": "auto", "collections": ["default"]}
    return {
        "stopped_turn": stopped["turn_id"],
        "open_turn": open_turn["turn_id"],
        "conversation": stopped["conversation_id"],
        "document": document["id"],
        "indexed": indexed["id"],
        "failed": failed["id"],
        "collection": "own",
        "bucket": "company",
        "alias": (await does("routing", "PUT", "/aliases", alias))["name"],
        "key": (await does("identity", "POST", "/keys", {"name": "another script"}))["id"],
        "user": others[0],
        "other_user": others[1],
        "other_tenant": str(platform.tenants[1]),
        "absent_tenant": str(uuid4()),
        "other_region": "eu-west-1",
    }


async def allowed(platform: Platform, *roles: str) -> dict[Route, bool]:
    """Return which examples are served to whoever has these roles, as the table says."""
    table, routes = operations(platform), await described()
    return {route: not table[routes[route][1]].isdisjoint({*roles, ANYONE}) for route in EXAMPLES}


async def assert_may(platform: Platform, credential: Mapping[str, str], own: Own, *roles: str) -> None:
    """Make every example's request: exactly those are served that the roles allow, and the others change nothing."""
    routes, may = await described(), await allowed(platform, *roles)
    role = roles[0] if roles else ""
    before = platform.counts()
    for (method, path), example in EXAMPLES.items():
        function, permission = routes[method, path]
        if not may[method, path]:
            reply = await example.ask(function, method, credential, own, role)
            assert (reply.status, reply.code()) == (403, "forbidden"), (method, path, reply)
            # The OpenAI API's errors have no room for it.
            assert function == "openai_api" or reply.json()["operation"] == permission
    assert platform.counts() == before
    for (method, path), example in EXAMPLES.items():
        if may[method, path]:
            reply = await example.ask(routes[method, path][0], method, credential, own, role)
            assert reply.status in {200, 201, 202, 204}, (method, path, reply)


@pytest.mark.parametrize("role", ROLES)
async def test_a_token_may_do_what_its_role_may(platform: Platform, role: str) -> None:
    own = await make_own(platform, bearer(platform, *ROLES))
    await assert_may(platform, bearer(platform, role), own, role)


@pytest.mark.parametrize("roles", [(), ("root", "admin", "MEMBER", "tenant_admin ")], ids=["none", "unknown ones"])
async def test_a_token_without_a_role_may_do_what_the_default_role_may(
    platform: Platform, default_role: str, roles: tuple[str, ...]
) -> None:
    own = await make_own(platform, bearer(platform, *ROLES))
    await assert_may(platform, bearer(platform, *roles), own, default_role)


async def service_account(platform: Platform, *roles: str) -> tuple[str, dict[str, str]]:
    """Return the id and the credential of a new service account that has been granted roles."""
    admin = bearer(platform, "tenant_admin", "platform_admin")
    account = await platform.call("identity", "POST", "/users", {"name": "walker", "roles": list(roles)}, headers=admin)
    assert account.status == 201, account
    user = account.json()["id"]
    key = await platform.call("identity", "POST", "/keys", {"name": "walker", "user_id": user}, headers=admin)
    assert key.status == 201, key
    return user, {"Authorization": f"Bearer {key.json()['key']}"}


@pytest.mark.parametrize("role", [*ROLES, ""])
async def test_a_service_accounts_key_may_do_what_its_role_may(platform: Platform, role: str) -> None:
    user, credential = await service_account(platform, *ROLES)
    own = await make_own(platform, credential)
    granted = {"user_id": user, "roles": [role] if role else []}
    admin = bearer(platform, "tenant_admin", "platform_admin")
    assert (await platform.call("identity", "PUT", "/roles/grants", granted, headers=admin)).status == 200
    # The default role is a person's: a service account has what it was granted.
    await assert_may(platform, credential, own, role)


async def test_several_roles_may_do_what_any_of_them_may(platform: Platform) -> None:
    own = await make_own(platform, bearer(platform, *ROLES))
    await assert_may(platform, bearer(platform, "viewer", "auditor"), own, "viewer", "auditor")


async def test_without_credentials_only_the_public_routes_answer(platform: Platform) -> None:
    own = await make_own(platform, bearer(platform, *ROLES))
    before = platform.counts()
    for (method, path), (function, permission) in (await described()).items():
        if permission == "public":
            assert (await call(serve(function), method, path)).status == 200, path
            continue
        reply = await EXAMPLES[method, path].ask(function, method, {}, own, "")
        assert (reply.status, reply.code()) == (401, "unauthenticated"), (method, path)
        assert reply.headers["www-authenticate"].startswith("Bearer")
        if method == "GET":
            assert (await EXAMPLES[method, path].ask(function, "HEAD", {}, own, "")).status == 401, path
    assert platform.counts() == before
