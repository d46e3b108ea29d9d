"""A model that fails is left alone; a probe, or one turn, finds out that it answers again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from functions.routing import probing
from shared.events import PING
from tests.functions.asgi import Reply, call, events
from tests.functions.platform import Platform, after_embeddings, said
from tests.functions.upstream import Answer, Upstream, hang_up, misbehaving, silence, status, stream, text
from tests.support import bearer

QUESTION = "What is the limit?"
LIGHT, STANDARD = "local/extractive-light", "local/extractive-standard"
HEALTH = "SELECT state, failures, openings, last_error FROM routing.health WHERE model = %s"


async def tick(platform: Platform) -> Reply:
    """Deliver a PingSource's event to the probe."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": str(uuid4()),
        "ce-type": PING,
        "ce-source": "/apis/v1/namespaces/test/pingsources/probe",
        "content-type": "application/json",
    }
    reply = await call(platform.serve("probe"), "POST", "/", headers, b"{}")
    assert reply.status == 200, reply
    return reply


async def fail_turns(platform: Platform, upstream: Upstream, times: int = 5, answer: Answer | None = None) -> None:
    """Ask a failing model."""
    upstream.chat = answer or status(500)
    for _ in range(times):
        ended = events((await platform.ask(QUESTION, model=STANDARD)).body)
        assert ended[-1].name == "turn.failed", ended


def asked(server: Upstream) -> list[dict[str, Any]]:
    """Return the chat requests that a server was sent."""
    return [request for request in server.requests if "/chat/completions" in request["path"]]


def health(platform: Platform, model: str = STANDARD) -> tuple[Any, ...]:
    """Return a model's state, failures, openings and last error."""
    with platform.database.connect() as operator:
        return operator.query(HEALTH, [model])[0]


def end_rest(platform: Platform) -> None:
    """Let the rest of every model be over."""
    with platform.database.connect() as operator:
        operator.run("UPDATE routing.health SET retry_at = clock_timestamp() WHERE retry_at IS NOT NULL")


async def test_five_failing_turns_open_the_breaker_and_the_next_goes_elsewhere(
    platform: Platform, upstream: Upstream
) -> None:
    await fail_turns(platform, upstream, 4)
    assert health(platform) == ("closed", 4, 0, "model_unavailable")
    await fail_turns(platform, upstream, 1)
    assert health(platform) == ("open", 5, 1, "model_unavailable")
    upstream.chat = stream(*text("Fine."))
    upstream.requests.clear()
    ended = events((await platform.ask(QUESTION)).body)
    assert (ended[-1].name, said(ended), ended[0].data["model"]) == ("turn.completed", "Fine.", LIGHT)
    assert ended[0].data["routing"]["fallback"] == "from standard down to light: health"
    assert [request["model"] for request in asked(upstream)] == [LIGHT]
    assert platform.held() == 0


async def test_where_no_other_may_answer_the_client_is_told_when_to_come_again(
    platform: Platform, upstream: Upstream
) -> None:
    await fail_turns(platform, upstream)
    before = platform.counts()
    reply = await platform.call("chat", "POST", "/chat", {"message": QUESTION, "model": STANDARD})
    assert (reply.status, reply.code()) == (503, "no_healthy_model")
    assert 0 < int(reply.headers["retry-after"]) <= 30
    problem = reply.json()
    assert [(c["model"], c["rejected"]) for c in problem["considered"]] == [(STANDARD, "health")]
    assert problem["retry_at"]
    explained = await platform.call("routing", "POST", "/routing/explain", {"message": QUESTION, "model": STANDARD})
    assert (explained.status, explained.code()) == (503, "no_healthy_model")
    assert platform.counts() == after_embeddings(before, 1)


async def test_a_probe_closes_the_breaker_when_the_server_answers_again(platform: Platform, upstream: Upstream) -> None:
    await fail_turns(platform, upstream)
    upstream.requests.clear()
    await tick(platform)
    assert asked(upstream) == [], "its rest is not over"
    end_rest(platform)
    await tick(platform)
    assert health(platform) == ("open", 6, 2, "HTTP 500"), "it failed again, and is left alone for longer"
    end_rest(platform)
    upstream.chat = stream(*text("OK"))
    upstream.requests.clear()
    await tick(platform)
    [request] = asked(upstream)
    assert (request["model"], request["max_tokens"]) == (STANDARD, 1)
    assert request["headers"]["authorization"] == "bearer sk-test"
    assert health(platform)[:3] == ("closed", 0, 0)
    ended = events((await platform.ask(QUESTION)).body)
    assert (ended[0].data["model"], ended[-1].name) == (STANDARD, "turn.completed")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(429), "HTTP 429"),
        (status(401), "HTTP 401"),
        (hang_up, "ServerDisconnectedError"),
        (silence, "ConnectionTimeoutError|SocketTimeoutError|TimeoutError"),
    ],
    ids=["429", "401", "hangs up", "silent"],
)
async def test_a_probe_that_fails_opens_it_again(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, answer: Answer, error: str
) -> None:
    monkeypatch.setattr(probing, "TIMEOUT_SECONDS", 0.2)
    await fail_turns(platform, upstream)
    end_rest(platform)
    upstream.chat = answer
    await tick(platform)
    state, failures, openings, last_error = health(platform)
    assert (state, failures, openings) == ("open", 6, 2)
    assert last_error in error.split("|")


async def test_two_probes_side_by_side_ask_once(platform: Platform, upstream: Upstream) -> None:
    await fail_turns(platform, upstream)
    end_rest(platform)
    upstream.chat = stream(*text("OK"))
    upstream.requests.clear()
    await asyncio.gather(*(tick(platform) for _ in range(4)))
    assert len(asked(upstream)) == 1
    assert health(platform)[0] == "closed"
    await tick(platform)
    assert len(asked(upstream)) == 1, "a model that is well is not asked"


async def test_the_one_turn_that_tries_the_model_closes_it(platform: Platform, upstream: Upstream) -> None:
    await fail_turns(platform, upstream)
    end_rest(platform)
    upstream.chat = stream(*text("Fine."))
    ended = events((await platform.ask(QUESTION)).body)
    assert (ended[0].data["model"], said(ended)) == (STANDARD, "Fine.")
    assert health(platform)[:3] == ("closed", 0, 0)


async def test_what_the_model_refuses_says_nothing_of_its_health(platform: Platform, upstream: Upstream) -> None:
    await fail_turns(platform, upstream, 6, status(400))
    listed = (await platform.call("routing", "GET", "/routing/models")).json()["models"]
    assert STANDARD in {model["name"] for model in listed}
    with platform.database.connect() as operator:
        assert operator.value("SELECT count(*) FROM routing.health WHERE failures > 0") == 0


@pytest.fixture
async def elsewhere(platform: Platform) -> AsyncIterator[Upstream]:
    """A second server, which the registry names as the endpoint of the standard model."""
    change = "UPDATE routing.models SET endpoint = %s WHERE name = %s"
    async with misbehaving() as server:
        with platform.database.connect() as operator:
            operator.run(change, [server.url, STANDARD])
            yield server
            operator.run(change, [None, STANDARD])


async def test_a_model_with_an_endpoint_of_its_own_is_asked_there(
    platform: Platform, upstream: Upstream, elsewhere: Upstream
) -> None:
    elsewhere.chat = stream(*text("From elsewhere."))
    ended = events((await platform.ask(QUESTION)).body)
    assert said(ended) == "From elsewhere."
    assert ([request["model"] for request in asked(elsewhere)], asked(upstream)) == ([STANDARD], [])
    light = events((await platform.ask(QUESTION, model=LIGHT)).body)
    assert (said(light), len(asked(upstream))) == ("Fine.", 1)

    elsewhere.requests.clear()
    upstream.requests.clear()
    await fail_turns(platform, elsewhere)
    end_rest(platform)
    elsewhere.chat = stream(*text("OK"))
    elsewhere.requests.clear()
    await tick(platform)
    assert ([request["max_tokens"] for request in asked(elsewhere)], asked(upstream)) == ([1], [])
    assert health(platform)[0] == "closed"


async def test_the_breakers_can_be_read(platform: Platform, upstream: Upstream) -> None:
    await fail_turns(platform, upstream)
    admin = bearer(platform.tenants[0], roles=("tenant_admin",))
    reply = await platform.call("routing", "GET", "/routing/health", headers=admin)
    assert reply.status == 200, reply
    models = {entry["model"]: entry for entry in reply.json()["models"]}
    assert (models[STANDARD]["state"], models[STANDARD]["last_error"]) == ("open", "model_unavailable")
    assert models[LIGHT]["state"] == "closed"
