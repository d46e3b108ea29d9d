"""Requests of tenants whose home is another region: answered before anything of them is used, over every protocol."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from redis.asyncio import Redis
from starlette.requests import HTTPConnection

from shared import audit, residency
from shared.api_keys import ApiKey
from shared.auth import issue_dev_token
from shared.settings import get_settings
from tests import support
from tests.functions.asgi import Reply
from tests.functions.leaks import Watch
from tests.functions.platform import PLATFORM_CHAIN, Entry, Platform
from tests.functions.talk import UPGRADE, Talk, serving
from tests.functions.upstream import Upstream
from tests.support import ISSUED, Caller

EUROPE = "eu-west-1"
URL = "https://{function}.eu.example"
SECRET = "plans of the harbour"
"""What a foreign tenant's requests are about: nothing here may keep it."""
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def operator(platform: Platform) -> Iterator[Caller]:
    """A database administrator, in whose directory is a region besides this one."""
    with platform.database.connect() as operator:
        operator.call("core.set_region", p_name=EUROPE, p_url=URL)
        yield operator
        operator.run("DELETE FROM core.tenant_homes")
        operator.run("DELETE FROM core.regions")


def away(operator: Caller, tenant: UUID | None = None, policy: str | None = None) -> UUID:
    """Return a tenant whose home is the other region."""
    tenant = tenant or uuid4()
    operator.call("core.set_home", p_tenant_id=tenant, p_region=EUROPE, p_policy=policy)
    return tenant


def decisions(platform: Platform, tenant: UUID) -> list[Entry]:
    return [
        entry
        for entry in platform.audited()
        if entry.action == "residency.decided" and entry.data["tenant_id"] == str(tenant)
    ]


def token_of(headers: dict[str, str]) -> str:
    return headers["Authorization"].removeprefix("Bearer ")


CASES = [
    ("chat", "POST", "/chat", "chat.ask", {"message": SECRET}),
    ("retrieval", "GET", "/search?q=plans%20of%20the%20harbour&limit=3", "search", None),
    ("ingestion", "PUT", "/documents/default/a%20plan.md", "documents.write", SECRET),
    ("openai_api", "POST", "/v1/embeddings", "embeddings.create", {"input": SECRET}),
    (
        "openai_api",
        "POST",
        "/v1/chat/completions",
        "chat.ask",
        {"model": "auto", "messages": [{"role": "user", "content": SECRET}]},
    ),
    ("identity", "GET", "/me", "me.read", None),
    ("routing", "POST", "/routing/explain", "routing.explain", {"message": SECRET}),
]


@pytest.mark.parametrize("policy", ["redirect", "refuse"])
@pytest.mark.parametrize(("function", "method", "url", "operation", "document"), CASES)
async def test_a_foreign_tenants_request_leaves_nothing_behind(
    platform: Platform,
    upstream: Upstream,
    operator: Caller,
    watch: Watch,
    policy: str,
    function: str,
    method: str,
    url: str,
    operation: str,
    document: Any,
) -> None:
    tenant = away(operator, policy=policy)
    credential = platform.bearer("somebody@example.com", tenant)
    before, entries = rows(operator), len(platform.audited())
    body = (
        document.encode() if isinstance(document, str) else b"" if document is None else json.dumps(document).encode()
    )
    kind = {"Content-Type": "text/markdown"} if isinstance(document, str) else JSON
    reply = await platform.call(function, method, url, headers={**credential, **kind, "X-Request-Id": "r-1"}, body=body)

    home = f"https://{function.replace('_', '-')}.eu.example"
    told: dict[str, object] = {"region": EUROPE}
    if policy == "redirect":
        assert (reply.status, reply.code(), reply.headers["location"]) == (307, "tenant_elsewhere", home + url)
        told["home"] = home
    else:
        assert (reply.status, reply.code()) == (403, "residency_refused")
        assert "location" not in reply.headers
    answer = reply.json().get("error") or reply.json()
    assert {name: answer[name] for name in ("region", "home") if name in answer} == told

    [entry] = decisions(platform, tenant)
    assert (entry.actor, entry.object) == ("unknown", operation)
    assert entry.data == {
        "request_id": "r-1", "tenant_id": str(tenant), "region": EUROPE, "decision": policy,
    }  # fmt: skip
    assert len(platform.audited()) == entries + 1
    assert rows(operator) == before
    assert upstream.requests == []
    assert (SECRET in "\n".join(watch.lines), "somebody" in "\n".join(watch.lines)) == (False, False)
    redis = Redis.from_url(platform.redis_url)
    assert [key async for key in redis.scan_iter(f"*{tenant}*")] == []
    await redis.aclose()


def rows(operator: Caller) -> dict[str, int]:
    """Return how many rows every table of the platform holds, besides the log's, whose entries are counted apart."""
    names = operator.query(
        "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE pg_get_userbyid(n.nspowner) = 'ea_owner' AND c.relkind = 'r' AND n.nspname <> 'compliance'"
    )
    return {name: operator.value(f"SELECT count(*) FROM {name}") for (name,) in names}


async def test_an_api_key_of_another_region_finds_its_way_home(platform: Platform, operator: Caller) -> None:
    """Its secret is not here; the tenant that it names is in the directory."""
    tenant = away(operator)
    key = {"Authorization": f"Bearer {ApiKey.generate(tenant).text()}"}
    reply = await platform.call("chat", "GET", "/conversations", headers=key)
    assert (reply.status, reply.code()) == (307, "tenant_elsewhere")
    assert reply.headers["location"] == "https://chat.eu.example/conversations"
    assert len(decisions(platform, tenant)) == 1
    # One of a tenant that nobody knows is a key like any other that is wrong.
    stranger = {"Authorization": f"Bearer {ApiKey.generate(uuid4()).text()}"}
    assert (await platform.call("chat", "GET", "/conversations", headers=stranger)).code() == "unauthenticated"


async def test_who_is_not_let_in_is_told_nothing_of_a_tenants_home(platform: Platform, operator: Caller) -> None:
    tenant = away(operator)
    forged = issue_dev_token(secret="x" * 32, tenant_id=tenant, subject="ann")
    ISSUED.add(forged)
    reply = await platform.call("chat", "GET", "/conversations", headers={"Authorization": f"Bearer {forged}"})
    assert (reply.status, reply.code()) == (401, "unauthenticated")
    assert EUROPE not in reply.body.decode()
    assert decisions(platform, tenant) == []


async def test_a_function_may_be_elsewhere_than_the_others_of_its_region(platform: Platform, operator: Caller) -> None:
    urls = json.dumps({"chat": "http://127.0.0.1:9/talk/"})
    operator.call("core.set_region", p_name=EUROPE, p_url="https://eu.example/api", p_function_urls=urls)
    headers = platform.bearer(tenant=away(operator))
    reply = await platform.call("chat", "GET", "/turns/7?x=%2F&y", headers=headers)
    assert reply.status == 404, "there is no such address anywhere"
    reply = await platform.call("chat", "GET", "/conversations?cursor=%2F&limit=2", headers=headers)
    assert reply.headers["location"] == "http://127.0.0.1:9/talk/conversations?cursor=%2F&limit=2"
    reply = await platform.call("identity", "GET", "/me", headers=headers)
    assert reply.headers["location"] == "https://eu.example/api/me"


async def test_a_browser_may_read_where_to_go(platform: Platform, operator: Caller) -> None:
    origin = {"Origin": get_settings().cors_allowed_origins[0]}
    reply = await platform.call(
        "chat", "GET", "/conversations", headers={**platform.bearer(tenant=away(operator)), **origin}
    )
    assert reply.status == 307
    assert reply.headers["access-control-allow-origin"] == origin["Origin"]
    assert "Location" in reply.headers["access-control-expose-headers"]


async def test_a_tenant_that_moves_away_is_sent_home_from_its_next_request_on(
    platform: Platform, operator: Caller
) -> None:
    """The process has known it to be at home: the database says otherwise with the very next call."""
    own, key = platform.tenants[0], await new_key(platform)
    before = await platform.call("identity", "GET", "/me")
    assert before.status == 200
    away(operator, own)
    for credential in (platform.bearer(), key):
        for _ in range(2):
            reply = await platform.call("identity", "GET", "/me", headers=credential)
            assert (reply.status, reply.headers["location"]) == (307, "https://identity.eu.example/me")
    assert len(decisions(platform, own)) == 4
    operator.call("core.set_home", p_tenant_id=own, p_region="test")
    assert (await platform.call("identity", "GET", "/me", headers=key)).status == 200


async def new_key(platform: Platform) -> dict[str, str]:
    made = await platform.call("identity", "POST", "/keys", {"name": "ci"})
    return {"Authorization": f"Bearer {made.json()['key']}"}


async def test_what_came_before_the_move_stays_in_the_tenants_own_log(platform: Platform, operator: Caller) -> None:
    own = platform.tenants[0]
    assert (await platform.call("identity", "GET", "/me")).status == 200
    away(operator, own)
    before = platform.audited(own)
    assert (await platform.call("identity", "GET", "/me")).status == 307
    assert platform.audited(own) == before


async def test_an_unknown_tenants_question_is_not_embedded(platform: Platform, upstream: Upstream) -> None:
    """It may be one of another region that the directory has not heard of yet."""
    reply = await platform.call("chat", "POST", "/chat", {"message": SECRET}, headers=platform.bearer(tenant=uuid4()))
    assert (reply.status, reply.code()) == (403, "tenant_unset")
    assert upstream.requests == []
    assert platform.audited()[-1].data["reason"] == "tenant_unset"


async def test_a_flood_does_not_fill_the_log(
    platform: Platform, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_A_MINUTE", 2)
    tenant = away(operator)
    headers = platform.bearer(tenant=tenant)
    for _ in range(5):
        assert (await platform.call("chat", "GET", "/conversations", headers=headers)).status == 307
    written = decisions(platform, tenant)
    assert 2 <= len(written) <= 4, "a minute may end meanwhile"
    monkeypatch.setattr(audit, "MAX_A_MINUTE", 1000)
    await platform.call("chat", "GET", "/conversations", headers=headers)
    assert sum(1 + entry.data.get("suppressed_before", 0) for entry in decisions(platform, tenant)) == 6


async def test_refusals_that_cannot_be_logged_are_counted_by_the_next_entry(
    platform: Platform, operator: Caller, monkeypatch: pytest.MonkeyPatch, watch: Watch
) -> None:
    tenant = away(operator)
    headers = platform.bearer(tenant=tenant)

    async def ask() -> int:
        return (await platform.call("chat", "GET", "/conversations", headers=headers)).status

    with monkeypatch.context() as flooded:
        flooded.setattr(audit, "MAX_A_MINUTE", 0)
        assert [await ask() for _ in range(3)] == [307] * 3
    operator.run("REVOKE EXECUTE ON FUNCTION compliance.record_residency FROM app")
    try:
        assert await ask() == 500
    finally:
        operator.run("GRANT EXECUTE ON FUNCTION compliance.record_residency TO app")
    assert await ask() == 307
    assert [entry.data.get("suppressed_before") for entry in decisions(platform, tenant)] == [4]
    assert len([line for line in watch.lines if '"refusal_unaudited"' in line]) == 1


async def test_a_refusal_whose_tenant_comes_home_before_it_is_logged_is_counted_by_the_next_entry(
    platform: Platform, watch: Watch
) -> None:
    allowance = audit.allowances["residency"]
    allowance.suppressed = 3
    await residency.send_home(HTTPConnection({"type": "http", "headers": []}), platform.tenants[0], "me.read")
    assert allowance.suppressed == 4
    assert len([line for line in watch.lines if '"refusal_unaudited"' in line]) == 1


async def test_a_tenant_at_home_is_asked_about_once_for_each_process(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residency, "KNOWN_SECONDS", 600)
    asked = await asked_of_the_database(platform, monkeypatch)
    assert [function for function in asked if function.startswith("core.residency")] == ["core.residency"]


async def test_a_deployment_without_a_name_asks_nothing_more(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGION", "local")
    get_settings.cache_clear()
    assert await asked_of_the_database(platform, monkeypatch) == ["core.whoami"] * 3


async def asked_of_the_database(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the functions that three requests of a tenant call."""
    from shared.database import Database

    called: list[str] = []
    rows_of = Database.rows

    async def rows(self: Database, function: str, *arguments: Any, **named: Any) -> Any:
        called.append(function)
        return await rows_of(self, function, *arguments, **named)

    monkeypatch.setattr(Database, "rows", rows)
    for _ in range(3):
        assert (await platform.call("identity", "GET", "/me")).status == 200
    return called


async def test_more_tenants_are_not_remembered_than_fit(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency, "MAX_KNOWN", 1)
    for tenant in platform.tenants:
        assert (await platform.call("identity", "GET", "/me", headers=platform.bearer(tenant=tenant))).status == 200
        assert set(residency._at_home) == {tenant}  # noqa: SLF001


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


@pytest.mark.parametrize("policy", ["redirect", "refuse"])
async def test_a_websocket_is_sent_home_with_its_handshake(
    platform: Platform, operator: Caller, session: aiohttp.ClientSession, policy: str
) -> None:
    tenant = away(operator, policy=policy)
    async with serving(platform.serve("chat")) as server:
        headers = {**UPGRADE, **platform.bearer(tenant=tenant)}
        async with session.get(f"{server.url}/ws?v=1", headers=headers, allow_redirects=False) as response:
            problem = await response.json(content_type=None)
            location = response.headers.get("location")
    if policy == "redirect":
        assert (response.status, problem["code"], location) == (
            307, "tenant_elsewhere", "wss://chat.eu.example/ws?v=1",
        )  # fmt: skip
        assert problem["home"] == "wss://chat.eu.example"
    else:
        assert (response.status, problem["code"], location) == (403, "residency_refused", None)
    assert problem["region"] == EUROPE
    assert [entry.object for entry in decisions(platform, tenant)] == ["chat.read"]


@pytest.mark.parametrize("policy", ["redirect", "refuse"])
async def test_a_websocket_that_authenticates_by_a_frame_is_told_its_region_and_closed(
    platform: Platform, operator: Caller, session: aiohttp.ClientSession, policy: str
) -> None:
    tenant = away(operator, policy=policy)
    async with serving(platform.serve("chat")) as server, Talk(session, f"{server.url}/ws", {}) as talk:
        await talk.say("authenticate", token=token_of(platform.bearer(tenant=tenant)))
        problem = await talk.refusal()
        assert problem["region"] == EUROPE
        if policy == "redirect":
            assert (problem["code"], problem["home"]) == ("tenant_elsewhere", "wss://chat.eu.example")
        else:
            assert (problem["code"], "home" in problem) == ("residency_refused", False)
        message = await talk.socket.receive(timeout=15)
        assert (message.data, message.extra) == (1008, f"at home in {EUROPE}")


async def test_an_open_socket_of_a_tenant_that_moves_away_asks_no_more_here(
    platform: Platform, upstream: Upstream, operator: Caller, session: aiohttp.ClientSession
) -> None:
    async with (
        serving(platform.serve("chat")) as server,
        Talk(session, f"{server.url}/ws", platform.bearer()) as talk,
    ):
        await talk.opened()
        away(operator, platform.tenants[0])
        await talk.say("stop", ref="1", turn_id=str(uuid4()))
        assert (await talk.refusal("1"))["code"] == "tenant_elsewhere"
        # What the process has learnt holds for the next question, which is not embedded.
        before = len(upstream.requests)
        await talk.say("ask", ref="2", message=SECRET)
        problem = await talk.refusal("2")
        assert (problem["code"], problem["region"], problem["home"]) == (
            "tenant_elsewhere", EUROPE, "wss://chat.eu.example",
        )  # fmt: skip
        assert len(upstream.requests) == before


async def test_a_tenant_that_has_moved_away_asks_no_more_here_once_what_the_process_knew_is_old(
    platform: Platform,
    upstream: Upstream,
    operator: Caller,
    session: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing has told the process before the question comes."""
    async with (
        serving(platform.serve("chat")) as server,
        Talk(session, f"{server.url}/ws", platform.bearer()) as talk,
    ):
        await talk.opened()
        away(operator, platform.tenants[0])
        monkeypatch.setattr(residency, "monotonic", lambda: time.monotonic() + residency.KNOWN_SECONDS)
        await talk.say("ask", ref="1", message=SECRET)
        assert (await talk.refusal("1"))["code"] == "tenant_elsewhere"
    assert upstream.requests == []


async def test_an_event_of_another_region_is_poison(platform: Platform, operator: Caller, upstream: Upstream) -> None:
    await platform.begin()
    [event] = [event for event in platform.claim() if "inference" in event["type"]]
    foreign = event | {"extensions": event["extensions"] | {"region": EUROPE}}
    before = len(upstream.requests)
    assert outcome(await platform.post(foreign)) == (422, "foreign_event")
    away(operator, platform.tenants[0])
    assert outcome(await platform.post(event)) == (422, "foreign_event")
    assert len(upstream.requests) == before
    assert operator.query("SELECT status, attempts FROM inference.jobs") == [("queued", 0)]


def outcome(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.code()


@pytest.mark.parametrize("foreign", ["event", "tenant"])
async def test_nothing_of_another_region_is_fetched(platform: Platform, operator: Caller, foreign: str) -> None:
    """The address would be refused too: what is asked first tells whether it was looked at."""
    tenant = away(operator) if foreign == "tenant" else platform.tenants[0]
    headers = {
        "ce-specversion": "1.0",
        "ce-id": str(uuid4()),
        "ce-type": "com.enterprise-agents.ingestion.submitted.v1",
        "ce-source": "/elsewhere",
        "ce-tenantid": str(tenant),
        "ce-dataref": "http://files.example/a.md",
        **({"ce-region": EUROPE} if foreign == "event" else {}),
    }
    reply = await platform.call("ingest", "POST", "/", headers=headers, body=b"{}")
    assert outcome(reply) == (422, "foreign_event")
    at_home = {**headers, "ce-tenantid": str(platform.tenants[0]), "ce-region": "test"}
    assert (await platform.call("ingest", "POST", "/", headers=at_home, body=b"{}")).code() == "dataref_forbidden"


@pytest.mark.usefixtures("operator")
async def test_the_directory_is_managed_over_http(platform: Platform) -> None:
    root = support.bearer(platform.tenants[0], "root", roles=["platform_admin"])

    async def ask(method: str, url: str, document: object = None) -> Reply:
        return await platform.call("identity", method, url, document, headers=root)

    change = {"url": "https://{function}.ap.example/", "function_urls": {"chat": "https://talk.ap.example"}}
    made = await ask("PUT", "/regions/ap-southeast-1", change)
    assert made.status == 200, made
    assert made.json()["url"] == "https://{function}.ap.example"
    listed = (await ask("GET", "/regions")).json()
    assert (listed["own"], [region["name"] for region in listed["regions"]]) == ("test", ["ap-southeast-1", EUROPE])
    tenant = uuid4()
    home = f"/tenants/{tenant}/home"
    assert (await ask("GET", home)).code() == "not_found"
    told = await ask("PUT", home, {"region": "ap-southeast-1", "policy": "refuse"})
    assert told.json() == (await ask("GET", home)).json() == {
        "tenant_id": str(tenant), "region": "ap-southeast-1", "decision": "refuse", "policy": "refuse",
    }  # fmt: skip
    assert (await ask("DELETE", "/regions/ap-southeast-1")).code() == "conflict"
    assert (await ask("DELETE", home)).status == 204
    assert (await ask("DELETE", "/regions/ap-southeast-1")).status == 204
    for url, document in (
        ("/regions/eu-west-1", {"url": "javascript:alert(1)"}),
        ("/regions/eu-west-1", {"url": "https://eu.example/?x"}),
        ("/regions/eu-west-1", {"url": "https://eu.example", "policy": "perhaps"}),
        ("/regions/EU", {"url": "https://eu.example"}),
        (home, {"region": "nowhere"}),
        (f"/tenants/{platform.tenants[0]}/home", {"region": EUROPE}),
    ):
        assert (await ask("PUT", url, document)).code() == "invalid_request", (url, document)
    changed = [(e.action, e.object) for e in platform.audited(PLATFORM_CHAIN) if e.actor.startswith("user:")]
    assert changed[-4:] == [
        ("region.changed", "ap-southeast-1"),
        ("tenant.home_changed", str(tenant)),
        ("tenant.home_removed", str(tenant)),
        ("region.removed", "ap-southeast-1"),
    ]
