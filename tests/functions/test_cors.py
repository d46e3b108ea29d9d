"""Browsers: pages of the listed origins may call the functions and read what they answer, others may not."""

import json

import pytest
from openai import OpenAI

from shared.http import ANSWER_HEADERS, METHODS
from shared.service import Service
from shared.serving import build
from shared.settings import DEV_ORIGINS, get_settings
from tests.functions.asgi import Reply, call
from tests.functions.conftest import SOURCES
from tests.functions.platform import Platform

LISTED = "https://agents.example.com"
UNLISTED = (
    "https://evil.example.com",
    "https://agents.example.com.evil.com",
    "http://agents.example.com",
    "null",
    *DEV_ORIGINS,
)
ROUTES = (
    ("chat", "POST", "/chat"),
    ("chat", "PUT", "/conversations/00000000-0000-4000-8000-000000000000/shares"),
    ("health", "GET", "/health"),
    ("identity", "PATCH", "/users/00000000-0000-4000-8000-000000000000"),
    ("identity", "DELETE", "/keys/00000000-0000-4000-8000-000000000000"),
    ("ingestion", "POST", "/documents"),
    ("routing", "GET", "/routing/models"),
)
SENT = "authorization, content-type, idempotency-key, last-event-id, traceparent, x-request-id"


@pytest.fixture(params=["prod", "test"])
def listed(request: pytest.FixtureRequest, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> str:
    """The origin that CORS_ALLOWED_ORIGINS names, in production and outside."""
    assert platform
    monkeypatch.setenv("ENVIRONMENT", request.param)
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", json.dumps([LISTED, "https://other.example.com"]))
    get_settings.cache_clear()
    return LISTED


def anew(function: str) -> Service:
    """Return a function's service as it is built with the present settings."""
    return build(SOURCES[function], function)


async def preflight(service: Service, origin: str, path: str, method: str, headers: str = SENT) -> Reply:
    """Ask what a browser asks before it makes a request that no form could make."""
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return await call(service, "OPTIONS", path, asked)


def words(value: str) -> set[str]:
    return {word.strip().lower() for word in value.split(",")}


@pytest.mark.parametrize(("function", "method", "path"), ROUTES)
async def test_a_page_of_a_listed_origin_may_make_every_request(
    listed: str, function: str, method: str, path: str
) -> None:
    reply = await preflight(anew(function), listed, path, method)
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == listed
    assert words(reply.headers["access-control-allow-methods"]) == words(", ".join(METHODS))
    assert words(SENT) <= words(reply.headers["access-control-allow-headers"])
    assert int(reply.headers["access-control-max-age"]) > 0
    assert "origin" in words(reply.headers["vary"])
    # A bearer token is sent by the page itself: no cookie may come along.
    assert "access-control-allow-credentials" not in reply.headers


async def test_a_page_of_another_origin_may_not(listed: str) -> None:
    service = anew("identity")
    for origin in UNLISTED:
        assert origin != listed
        assert "access-control-allow-origin" not in (await preflight(service, origin, "/me", "GET")).headers, origin
        reply = await call(service, "GET", "/saml/metadata", {"Origin": origin})
        assert "access-control-allow-origin" not in reply.headers, origin
        assert "origin" in words(reply.headers["vary"])


async def test_a_page_may_use_the_official_client_of_the_openai_api(listed: str) -> None:
    sent = {
        name for name in OpenAI(api_key="x", base_url="http://127.0.0.1").default_headers if "stainless" in name.lower()
    }
    assert len(sent) > 3
    own = ", ".join([*sent, "X-Stainless-Retry-Count", "X-Stainless-Timeout", "Authorization", "Content-Type"])
    reply = await preflight(anew("openai_api"), listed, "/v1/chat/completions", "POST", own)
    assert reply.status == 200, "the Python and the Node client name these alike"


async def test_a_page_may_not_send_what_no_function_reads(listed: str) -> None:
    service = anew("identity")
    assert (await preflight(service, listed, "/me", "TRACE")).status == 400
    assert (await preflight(service, listed, "/me", "GET", "X-Forwarded-For")).status == 400


async def test_answers_and_refusals_may_be_read(
    platform: Platform, listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "test")
    get_settings.cache_clear()
    chat, identity = anew("chat"), anew("identity")
    user = platform.bearer() | {"Origin": listed, "Content-Type": "application/json"}
    stranger = {"Origin": listed}
    for service, method, path, headers, body, status in (
        (identity, "GET", "/me", user, b"", 200),
        (chat, "POST", "/chat", user, b'{"message": "What?", "stream": false}', 202),
        (identity, "GET", "/me", stranger, b"", 401),
        (identity, "GET", "/me", stranger | {"Authorization": "Bearer rubbish"}, b"", 401),
        (identity, "GET", "/users", user, b"", 403),
        (identity, "GET", "/nowhere", user, b"", 404),
        (identity, "POST", "/me", user, b"", 405),
        (chat, "POST", "/chat", user, b"{", 400),
        (chat, "POST", "/chat", user, b"{}", 422),
    ):
        reply = await call(service, method, path, headers, body)
        assert reply.status == status, path
        assert reply.headers["access-control-allow-origin"] == listed, (path, status)
        assert words(reply.headers["access-control-expose-headers"]) == words(", ".join(ANSWER_HEADERS))
        assert "access-control-allow-credentials" not in reply.headers


async def test_what_a_page_needs_of_an_answer_is_exposed(platform: Platform) -> None:
    """Whatever the functions tell in headers of their own, a page may read."""
    headers = platform.bearer() | {"Origin": DEV_ORIGINS[0], "Content-Type": "application/json"}
    asked = b'{"message": "What?", "stream": false}'
    reply = await call(platform.serve("chat"), "POST", "/chat", headers, asked)
    exposed = words(reply.headers["access-control-expose-headers"])
    # Safelisted by the Fetch standard, or for caches and proxies alone.
    known = {"cache-control", "content-length", "content-type", "vary", "x-accel-buffering"}
    assert {name for name in reply.headers if not name.startswith("access-control-")} - known <= exposed


async def test_by_default_the_development_servers_pages_may_call(platform: Platform) -> None:
    for origin in DEV_ORIGINS:
        reply = await preflight(platform.serve("chat"), origin, "/chat", "POST")
        assert reply.headers["access-control-allow-origin"] == origin
    without = await call(platform.serve("routing"), "GET", "/routing/models", platform.bearer())
    assert without.status == 200
    assert "access-control-allow-origin" not in without.headers


async def test_a_defect_may_be_read_too(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("functions.chat.sharing.call", None)
    headers = platform.bearer() | {"Origin": DEV_ORIGINS[0]}
    path = "/conversations/00000000-0000-4000-8000-000000000000/shares"
    reply = await call(platform.serve("chat"), "GET", path, headers)
    assert (reply.status, reply.code()) == (500, "internal_error")
    assert reply.headers["access-control-allow-origin"] == DEV_ORIGINS[0]
