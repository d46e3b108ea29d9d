"""What a question's embedding costs: once for each answer of the endpoint, by whichever way it is asked, within the budgets."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.functions.asgi import LONGEST_SECONDS, Exchange
from tests.functions.asgi import Reply as Response
from tests.functions.platform import Platform
from tests.functions.test_spending import set_limit, usage
from tests.functions.upstream import Answer, Reply, Upstream, hang_up, status
from tests.support import WIDTH

QUESTION = "What is the limit?"
STANDARD = "local/extractive-standard"
EMBEDDING = "local/all-minilm-l6-v2"
COUNTED = 5
WAYS = ("chat", "search", "completion")


def request(way: str, message: str = QUESTION) -> tuple[str, str, dict[str, object]]:
    """Return a function, and a path and a document by which a question is asked so that it is embedded."""
    match way:
        case "chat":
            return "chat", "/chat", {"message": message, "stream": False}
        case "search":
            return "retrieval", "/search", {"q": message}
    messages = [{"role": "user", "content": message}]
    return "openai_api", "/v1/chat/completions", {"model": STANDARD, "messages": messages, "retrieval": True}


async def ask(platform: Platform, way: str, message: str = QUESTION, **headers: str) -> Response:
    """Ask so that the question is embedded."""
    function, path, document = request(way, message)
    return await platform.call(function, "POST", path, document, headers=headers)


def counting(tokens: object) -> Answer:
    """Answer with a vector, and with how many tokens it took."""

    async def answer(reply: Reply, _: dict[str, Any]) -> None:
        data = [{"index": 0, "embedding": [1.0, *[0.0] * (WIDTH - 1)]}]
        await reply.whole(200, json.dumps({"data": data, "usage": {"prompt_tokens": tokens}}).encode())

    return answer


def asked_for(upstream: Upstream) -> int:
    """Return how often the endpoint was asked for an embedding."""
    return sum("input" in request for request in upstream.requests)


def assert_sound(platform: Platform) -> None:
    with platform.database.connect() as operator:
        assert operator.rows("budget.verify") == []
        unsettled = operator.query(
            "SELECT FROM budget.reservations r JOIN rag.embedding_models m ON m.name = r.model WHERE r.closed_at IS NULL"
        )
        assert unsettled == []


@pytest.mark.parametrize("way", WAYS)
async def test_what_the_endpoint_counts_is_charged_to_who_asks_and_told_by_model(
    platform: Platform, upstream: Upstream, way: str
) -> None:
    upstream.embeddings = counting(COUNTED)
    assert (await ask(platform, way)).status in (200, 202)
    assert (platform.embedded(), asked_for(upstream)) == ([COUNTED], 1)
    [told] = [row for row in await usage(platform, "ann", "member", "&by=model") if row["model"] == EMBEDDING]
    assert (told["tokens"], told["turns"]) == (COUNTED, 0)
    assert_sound(platform)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tokens", [None, -1, "5", 2.5, True, 10**30])
async def test_an_endpoint_that_does_not_count_costs_the_upper_estimate(
    platform: Platform, upstream: Upstream, way: str, tokens: object
) -> None:
    upstream.embeddings = counting(tokens)
    assert (await ask(platform, way)).status in (200, 202)
    with platform.database.connect() as operator:
        estimate = operator.value("SELECT budget.estimate_tokens(%s) + 2", [QUESTION])
    assert platform.embedded() == [estimate]
    assert_sound(platform)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answer", [hang_up, status(500), status(400)], ids=["hang up", "500", "400"])
async def test_an_endpoint_that_fails_costs_nothing(
    platform: Platform, upstream: Upstream, way: str, answer: Answer
) -> None:
    upstream.embeddings = answer
    await ask(platform, way)
    assert (platform.embedded(), asked_for(upstream)) == ([], 1)
    assert_sound(platform)


@pytest.mark.parametrize("way", ["chat", "completion"])
@pytest.mark.parametrize("change", [{"tokens": 3}, {"tokens": 10**6, "paused": True}], ids=["full", "paused"])
async def test_a_budget_without_room_refuses_a_question_before_the_endpoint_is_asked(
    platform: Platform, upstream: Upstream, way: str, change: dict[str, object]
) -> None:
    await limited(platform, **change)
    assert (await ask(platform, way)).status == 429
    assert upstream.requests == []
    assert_sound(platform)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"tokens": 3}, "budget_exceeded"), ({"tokens": 10**6, "paused": True}, "budget_paused")],
)
async def test_a_budget_without_room_leaves_the_search_by_text_which_costs_nothing(
    platform: Platform, upstream: Upstream, change: dict[str, object], reason: str
) -> None:
    await platform.store("limits.md", "# Limits\n\nThe limit is ten.")
    upstream.requests.clear()
    await limited(platform, **change)
    found = (await ask(platform, "search")).json()
    assert (found["mode"], found["reason"]) == ("text", reason)
    assert [result["document"] for result in found["results"]] == ["limits.md"]
    assert upstream.requests == []
    assert_sound(platform)


async def limited(platform: Platform, **change: object) -> None:
    """Give the tenant a limit."""
    limit = {"scope": "tenant", "holder_id": str(platform.tenants[0]), "period": "day", **change}
    assert (await set_limit(platform, "platform_admin", **limit)).status == 200


@pytest.mark.parametrize("way", ["chat", "completion"])
async def test_the_same_request_again_is_embedded_and_charged_once(
    platform: Platform, upstream: Upstream, way: str
) -> None:
    upstream.embeddings = counting(COUNTED)
    for _ in range(3):
        assert (await ask(platform, way, **{"Idempotency-Key": "once"})).status in (200, 202)
    assert (platform.embedded(), asked_for(upstream)) == ([COUNTED], 1)
    assert_sound(platform)


@pytest.mark.parametrize("way", WAYS)
async def test_an_embedding_is_charged_although_what_it_was_for_is_refused(
    platform: Platform, upstream: Upstream, way: str
) -> None:
    upstream.embeddings = counting(COUNTED)
    function, path, document = request(way)
    elsewhere = {"collections": ["none"]}
    document |= {"retrieval": elsewhere} if way == "completion" else elsewhere
    assert (await platform.call(function, "POST", path, document)).status == 404
    assert (platform.embedded(), asked_for(upstream)) == ([COUNTED], 1)
    assert_sound(platform)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answered", [False, True])
async def test_a_request_that_is_cut_off_holds_nothing_and_costs_what_was_answered(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, way: str, answered: bool
) -> None:
    """As the requests of a process are that has to end: before the endpoint has answered, or before the answer is used."""
    reached = asyncio.Event()

    async def stay(*_: object, **__: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    upstream.embeddings = counting(COUNTED) if answered else stay
    if answered:
        for caller in ("shared.retrieval._search", "shared.retrieval.reranked"):
            monkeypatch.setattr(caller, stay)
    function, path, document = request(way)
    headers = platform.bearer() | {"Content-Type": "application/json"}
    exchange = Exchange(platform.serve(function), "POST", path, headers, [json.dumps(document).encode()])
    asking = asyncio.create_task(exchange.run())
    await asyncio.wait_for(reached.wait(), LONGEST_SECONDS)
    assert platform.held() > 0
    asking.cancel()
    await asyncio.wait({asking})
    assert platform.held() == 0
    assert platform.embedded() == ([COUNTED] if answered else [])
    assert_sound(platform)


@pytest.fixture
def replaceable(platform: Platform) -> Iterator[Platform]:
    """The platform, whose other tests find the embedding model as it was."""
    yield platform
    with platform.database.connect() as operator:
        operator.run("DELETE FROM rag.embedding_models WHERE name = 'newer'")
        operator.run("UPDATE rag.embedding_models SET status = 'active'")


@pytest.mark.parametrize("way", WAYS)
async def test_a_model_that_is_replaced_meanwhile_has_answered_and_is_charged_like_the_new_one(
    replaceable: Platform, upstream: Upstream, way: str
) -> None:
    platform, counted = replaceable, counting(COUNTED)

    async def replaced(reply: Reply, request: dict[str, Any]) -> None:
        upstream.embeddings = counted
        with platform.database.connect() as operator:
            operator.run("UPDATE rag.embedding_models SET status = 'retired'")
            operator.run(
                "INSERT INTO rag.embedding_models (name, width, status) VALUES ('newer', %s, 'active')", [WIDTH]
            )
        await counted(reply, request)

    upstream.embeddings = replaced
    assert (await ask(platform, way)).status in (200, 202)
    assert [request["model"] for request in upstream.requests if "input" in request] == [EMBEDDING, "newer"]
    assert platform.embedded() == [COUNTED, COUNTED]
    assert_sound(platform)


async def test_a_request_without_retrieval_or_with_blanks_reserves_for_its_turn_alone(
    platform: Platform, upstream: Upstream
) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    asked: dict[str, object] = {"model": STANDARD, "messages": messages}
    for headers in ({}, {"Idempotency-Key": "once"}):
        reply = await platform.call("openai_api", "POST", "/v1/chat/completions", asked, headers=headers)
        assert reply.status == 200, reply
    assert (await ask(platform, "completion", " \n")).status == 200
    assert (platform.counts()["budget.reservations"], asked_for(upstream)) == (3, 0)
    assert_sound(platform)
