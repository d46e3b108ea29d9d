"""What every function has besides its own operations: health, metrics, its API's description, and log lines."""

import asyncio
import json
import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from shared import logs
from shared.database import TRUSTED_SECONDS
from shared.runtime import runtime
from shared.service import Service
from shared.serving import build
from shared.settings import get_settings
from tests.functions.asgi import Reply, call
from tests.functions.platform import Platform, until
from tests.functions.upstream import Upstream, status, stream, text
from tests.support import PASSWORDS

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

HTTP_FUNCTIONS = ("chat", "health", "identity", "ingestion", "openai_api", "routing")
FUNCTIONS = (*HTTP_FUNCTIONS, "infer", "ingest", "probe", "sweep")


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_function_is_alive_and_ready(platform: Platform, function: str) -> None:
    live = await call(platform.serve(function), "GET", "/health/live")
    assert (live.status, live.json()) == (200, {"status": "ok"})
    ready = await call(platform.serve(function), "GET", "/health/ready")
    assert (ready.status, ready.json()["checks"]) == (200, {"database": "ok", "redis": "ok"})
    exposition = await call(platform.serve(function), "GET", "/metrics")
    assert exposition.headers["content-type"].startswith("text/plain")


async def test_the_platforms_health_is_public(platform: Platform) -> None:
    reply = await call(platform.serve("health"), "GET", "/health")
    assert (reply.status, reply.json()["status"]) == (200, "ok")


@pytest.mark.parametrize("missing", ["database", "redis"])
async def test_without_what_it_needs_a_function_is_not_ready_but_alive(
    platform: Platform, closed_port: int, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 0.1)
    url = {
        "database": f"postgresql://app:secret@127.0.0.1:{closed_port}/a",
        "redis": f"redis://127.0.0.1:{closed_port}/0",
    }
    monkeypatch.setenv(f"{missing.upper()}_URL", url[missing])
    get_settings.cache_clear()
    ready = await call(platform.serve("chat"), "GET", "/health/ready")
    assert ready.status == 503
    checks = {"database": "ok", "redis": "ok"} | {missing: "unreachable"}
    assert ready.json() == {"status": "unavailable", "checks": checks}
    exposition = (await call(platform.serve("chat"), "GET", "/metrics")).body.decode().splitlines()
    for store, state in checks.items():
        assert f'enterprise_agent_store_available{{store="{store}"}} {float(state == "ok")}' in exposition
    public = await call(platform.serve("health"), "GET", "/health")
    assert (public.status, public.json()) == (503, {"status": "unavailable"})
    assert (await call(platform.serve("chat"), "GET", "/health/live")).status == 200


async def test_a_busy_database_is_asked_by_one_check_which_all_hear(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """queue-proxy leaves after 100 ms and comes again: its checks would wait in line, with nobody to hear them."""
    monkeypatch.setattr("shared.health.CHECK_TIMEOUT_SECONDS", 60)
    monkeypatch.setattr("shared.health.RECENT_SECONDS", 3600)
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 60)
    monkeypatch.setenv("DATABASE_URL", get_settings().database_dsn() + "?pool_size=1")
    get_settings.cache_clear()

    def ask() -> asyncio.Task[Reply]:
        return asyncio.create_task(call(platform.serve("chat"), "GET", "/health/ready"))

    def waiting() -> float:
        return next(one.value for one in runtime.samples() if one.name == "enterprise_agent_database_waiting")

    pool = (await runtime.database())._pool  # noqa: SLF001 - every connection is in use
    async with pool.connection():
        asked = [ask() for _ in range(5)]
        await until(lambda: waiting() > 0)
        asked[0].cancel()
        asked.append(ask())
        await asyncio.sleep(0.1)
        assert waiting() == 1
    for one in asked[1:]:
        assert (await one).status == 200
    async with pool.connection():
        assert (await ask()).status == 200
        assert waiting() == 0


async def test_that_something_is_wrong_is_not_kept_in_mind(
    platform: Platform, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.health.RECENT_SECONDS", 3600)
    good = get_settings().redis_url.get_secret_value()
    for url, expected in ((f"redis://127.0.0.1:{closed_port}/0", 503), (good, 200)):
        monkeypatch.setenv("REDIS_URL", url)
        get_settings.cache_clear()
        runtime._redis = None  # noqa: SLF001 - as if it had come up
        assert (await call(platform.serve("chat"), "GET", "/health/ready")).status == expected


async def test_a_database_without_the_platform_in_it_is_not_ready(
    platform: Platform, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database)
    get_settings.cache_clear()
    reply = await call(platform.serve("health"), "GET", "/health/ready")
    assert reply.status == 503
    assert reply.json()["checks"]["database"] != "ok"


async def test_while_the_database_is_away_requests_are_refused(
    platform: Platform, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://app:secret@127.0.0.1:{closed_port}/a")
    get_settings.cache_clear()
    for function, method, path, document in (
        ("chat", "POST", "/chat", {"message": "What?"}),
        ("chat", "GET", "/turns/00000000-0000-4000-8000-000000000000/stream", None),
        ("ingestion", "GET", "/documents", None),
        ("routing", "POST", "/routing/explain", {"message": "What?"}),
    ):
        reply = await platform.call(function, method, path, document)
        assert (reply.status, reply.code()) == (503, "database_unavailable"), path


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "Bearer   "])
async def test_the_scheme_is_read_as_http_has_it(platform: Platform, scheme: str) -> None:
    """In any case, and with one space or several (RFC 9110, section 11.1; RFC 6750, section 2.1)."""
    value = platform.bearer()["Authorization"].replace("Bearer ", scheme)
    assert (await call(platform.serve("routing"), "GET", "/routing/models", {"Authorization": value})).status == 200


async def test_requests_and_failures_are_counted(platform: Platform) -> None:
    async def value(sample: str) -> float:
        lines = (await call(platform.serve("chat"), "GET", "/metrics")).body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(sample))

    requests = 'enterprise_agent_requests_total{method="POST",status="400"}'
    problems = 'enterprise_agent_problems_total{code="malformed_json"}'
    before = await value(requests), await value(problems)
    await platform.call("chat", "POST", "/chat", body=b"{")
    assert (await value(requests), await value(problems)) == (before[0] + 1, before[1] + 1)
    await platform.begin()
    for step in ("auth", "rate_limit", "embedding", "begin_turn"):
        assert await value(f'enterprise_agent_turn_step_seconds_count{{step="{step}"}}') > 0


async def test_routing_explains_without_storing(platform: Platform) -> None:
    before = platform.counts()
    reply = await platform.call("routing", "POST", "/routing/explain", {"message": "Do a security review."})
    assert reply.status == 200
    explained = reply.json()
    assert {name: explained[name] for name in ("model", "tier", "rule", "requested", "fallback", "budget")} == {
        "model": "local/extractive-heavy", "tier": "heavy", "rule": "security review", "requested": "auto", "fallback": None,
        "budget": {"admitted": True},
    }  # fmt: skip
    assert explained["features"]["question_type"] == "security"
    assert [c["tier"] for c in explained["considered"]] == ["heavy", "standard", "light"]
    models = (await platform.call("routing", "GET", "/routing/models")).json()["models"]
    assert {m["name"]: m["tier"] for m in models}["local/extractive-light"] == "light"
    assert platform.counts() == before


def references(document: Any) -> set[str]:
    """Return every reference in a document."""
    return set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))


@pytest.mark.parametrize("function", HTTP_FUNCTIONS)
async def test_a_function_describes_its_api(platform: Platform, function: str) -> None:
    reply = await call(platform.serve(function), "GET", "/openapi.json")
    document = reply.json()
    assert (reply.status, document["openapi"]) == (200, "3.1.0")
    assert document["info"]["title"]
    errors = "application/json" if function == "openai_api" else "application/problem+json"
    operations = [o for path in document["paths"].values() for o in path.values()]
    assert len({o["operationId"] for o in operations}) == len(operations) > 0
    schemas = document["components"]["schemas"]
    assert references(document) == {f"#/components/schemas/{name}" for name in schemas}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            declared = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path)), path
            assert set(operation["responses"]["default"]["content"]) == {errors}, path
    page = await call(platform.serve(function), "GET", "/docs")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert all(path.split("{")[0] in page.body.decode() for path in document["paths"])


async def test_the_described_operations_are_those_of_the_api(platform: Platform) -> None:
    described: dict[tuple[str, str], Any] = {}
    for function in HTTP_FUNCTIONS:
        document = (await call(platform.serve(function), "GET", "/openapi.json")).json()
        described |= {(m.upper(), path): o for path, methods in document["paths"].items() for m, o in methods.items()}
    assert set(described) == {
        ("POST", "/chat"), ("GET", "/turns/{turn_id}"), ("GET", "/turns/{turn_id}/stream"), ("POST", "/turns/{turn_id}/stop"),
        ("GET", "/turns/{turn_id}/trace"), ("POST", "/turns/{turn_id}/regenerate"),
        ("GET", "/conversations"), ("GET", "/conversations/search"), ("GET", "/conversations/{conversation_id}"),
        ("PATCH", "/conversations/{conversation_id}"), ("DELETE", "/conversations/{conversation_id}"),
        ("GET", "/conversations/{conversation_id}/export"),
        ("GET", "/conversations/{conversation_id}/shares"), ("PUT", "/conversations/{conversation_id}/shares"),
        ("POST", "/documents"), ("GET", "/documents"), ("GET", "/documents/{document_id}"),
        ("DELETE", "/documents/{document_id}"), ("PUT", "/documents/{collection}/{name}"), ("POST", "/documents/retry"),
        *(("GET", f"/documents/{{document_id}}/{what}") for what in ("content", "text", "progress")),
        ("POST", "/documents/{document_id}/retry"), ("GET", "/progress"),
        ("GET", "/collections"), ("PUT", "/collections/{collection}"), ("DELETE", "/collections/{collection}"),
        ("GET", "/collections/{collection}/grants"), ("PUT", "/collections/{collection}/grants"),
        ("GET", "/buckets"), ("PUT", "/buckets"), ("DELETE", "/buckets"), ("POST", "/buckets/notifications"),
        ("POST", "/routing/explain"), ("GET", "/routing/models"), ("GET", "/routing/rules"), ("GET", "/routing/health"),
        ("GET", "/aliases"), ("PUT", "/aliases"), ("DELETE", "/aliases/{alias}"),
        ("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/{model}"), ("POST", "/v1/embeddings"),
        ("GET", "/usage"), ("GET", "/budgets"), ("PUT", "/budgets"), ("POST", "/budgets/top-up"), ("GET", "/health"),
        ("GET", "/me"), ("GET", "/tenant"), ("PATCH", "/tenant"), ("GET", "/saml/metadata"),
        ("GET", "/tenants"), ("POST", "/tenants"), ("PATCH", "/tenants/{tenant_id}"),
        ("GET", "/regions"), ("PUT", "/regions/{region}"), ("DELETE", "/regions/{region}"),
        ("GET", "/tenants/{tenant_id}/home"), ("PUT", "/tenants/{tenant_id}/home"), ("DELETE", "/tenants/{tenant_id}/home"),
        ("GET", "/users"), ("POST", "/users"), ("GET", "/users/{user_id}"), ("PATCH", "/users/{user_id}"),
        ("DELETE", "/users/{user_id}"), ("GET", "/roles"), ("GET", "/roles/grants"), ("PUT", "/roles/grants"),
        ("POST", "/keys"), ("GET", "/keys"), ("POST", "/keys/{key_id}/rotate"), ("DELETE", "/keys/{key_id}"),
        ("GET", "/audit"), ("GET", "/audit/verify"),
    }  # fmt: skip
    assert set(described["POST", "/documents"]["requestBody"]["content"]) == {
        "text/*", "application/*", "message/rfc822", "multipart/form-data",
    }  # fmt: skip
    assert "application/json" in described["POST", "/chat"]["requestBody"]["content"]


async def test_the_page_of_the_api_is_not_served_in_prod(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    assert platform
    monkeypatch.setenv("ENVIRONMENT", "prod")
    get_settings.cache_clear()
    service = build("functions/chat/main.py", "chat")
    assert (await call(service, "GET", "/docs")).status == 404
    assert (await call(service, "GET", "/openapi.json")).status == 200


async def test_the_lifespan_closes_what_the_requests_opened(platform: Platform) -> None:
    service = platform.serve("chat")
    commands: asyncio.Queue[Message] = asyncio.Queue()
    told: asyncio.Queue[Message] = asyncio.Queue()
    lifespan = asyncio.create_task(service({"type": "lifespan"}, commands.get, told.put))
    await commands.put({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    await platform.begin()
    backends = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND datname = current_database()"
    with platform.database.connect() as operator:
        assert operator.value(backends) > 0
        await commands.put({"type": "lifespan.shutdown"})
        assert (await told.get())["type"] == "lifespan.shutdown.complete"
        await lifespan
        await until(lambda: not operator.value(backends))


async def test_log_lines_are_json_and_hold_no_secret(
    platform: Platform, upstream: Upstream, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("LITELLM_API_KEY", "sk-very-secret")
    get_settings.cache_clear()
    headers = platform.bearer() | {"x-request-id": "r-1"}
    turn = await platform.begin()
    await platform.deliver()
    await platform.call("chat", "POST", "/chat", {"message": ""}, headers=headers)
    await platform.call("chat", "POST", "/chat", {"message": "a"}, headers={"Authorization": "Bearer not.a.token"})
    upstream.chat = stream(*text("Half")[:1], cut=True)
    upstream.embeddings = status(500)
    await platform.ask("What is the limit?")
    monkeypatch.setattr("functions.chat.turns.read", None)
    failed = await platform.call("chat", "GET", f"/turns/{turn}")
    assert (failed.status, failed.code()) == (500, "internal_error")
    assert b"NoneType" not in failed.body

    lines = [logs.JsonFormatter().format(record) for record in caplog.records]
    assert all("\n" not in line for line in lines)
    entries = [json.loads(line) for line in lines]
    assert all({"time", "level", "event"} <= set(entry) for entry in entries)
    by_event = {entry["event"]: entry for entry in entries}
    assert {"request", "turn_accepted", "turn_ended", "request_refused", "retrieval_degraded", "turn_failed"} <= set(
        by_event
    )
    assert by_event["turn_ended"]["turn_id"] == turn
    assert by_event["request_failed"]["level"] == "error"
    assert "TypeError" in by_event["request_failed"]["exception"]
    assert any(entry.get("request_id") == "r-1" for entry in entries)
    whole = "\n".join(lines)
    token = headers["Authorization"].split(".")[1]
    for secret in (
        token,
        "not.a.token",
        "sk-very-secret",
        PASSWORDS["app"],
        platform.redis_url.split(":")[2].split("@")[0],
    ):
        assert secret not in whole


async def test_a_database_that_is_back_is_found_by_the_next_call_however_long_it_was_away(
    platform: Platform, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("shared.database.RECONNECT_SECONDS", 0.1)
    server = urlsplit(platform.database.urls["app"])
    monkeypatch.setenv(
        "DATABASE_URL", server._replace(netloc=f"{server.netloc.rpartition(':')[0]}:{closed_port}").geturl()
    )
    get_settings.cache_clear()
    # By then the interval would be two seconds.
    for _ in range(3):
        assert (await platform.call("routing", "GET", "/routing/models")).code() == "database_unavailable"

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(server.hostname, server.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", closed_port):
        assert (await platform.call("routing", "GET", "/routing/models")).status == 200
        await runtime.close()


OWN_CONNECTIONS = "FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app'"


async def connect(platform: Platform, connections: int) -> None:
    """Have so many connections to the database made; the pool grows by one at a time."""
    with platform.database.connect() as operator:
        while operator.value(f"SELECT count(*) {OWN_CONNECTIONS}") < connections:
            await asyncio.gather(*(platform.call("routing", "GET", "/routing/models") for _ in range(20)))


async def test_connections_that_a_restart_of_the_database_closed_cost_no_request(platform: Platform) -> None:
    with platform.database.connect() as operator:
        await connect(platform, 6)
        assert operator.value(f"SELECT bool_and(pg_terminate_backend(pid, 9000)) {OWN_CONNECTIONS}")
    # What was used a moment ago is not looked at.
    await asyncio.sleep(2 * TRUSTED_SECONDS)
    assert (await platform.call("routing", "GET", "/routing/models")).status == 200


async def test_requests_one_after_the_other_stay_with_one_backend(platform: Platform) -> None:
    with platform.database.connect() as operator:
        await connect(platform, 6)
        begun = operator.value("SELECT clock_timestamp()")
        for _ in range(12):
            assert (await platform.call("routing", "GET", "/routing/models")).status == 200
        asked = operator.value(f"SELECT count(*) {OWN_CONNECTIONS} AND query_start > %s", (begun,))
    # Two, where the pool has made another one meanwhile.
    assert asked in {1, 2}


async def test_a_request_that_the_end_of_the_process_cuts_is_told_to_ask_again() -> None:
    begun, sent = asyncio.Event(), list["Message"]()

    async def endless(_scope: "Scope", _receive: "Receive", _send: "Send") -> None:
        begun.set()
        await asyncio.Event().wait()

    async def receive() -> "Message":
        return {"type": "http.request"}

    async def send(message: "Message") -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    request = asyncio.create_task(Service(endless, "endless")(scope, receive, send))
    await begun.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"1") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["code"] == "shutting_down"
