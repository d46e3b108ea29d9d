"""Searching over HTTP: what is found, by what, and what happens when an endpoint behind it does not answer."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import pytest

from shared.settings import get_settings
from tests.functions.platform import Platform
from tests.functions.upstream import Answer, Reply, Upstream, hang_up, silence, status, vectors
from tests.support import WIDTH, bearer

LIMITS = "# Limits\n\nA hotel may cost 120 euros a night.\n"
LEAVE = "# Leave\n\nContact Katharina Wozniak about vacation.\n"


@pytest.fixture
async def stored(platform: Platform) -> Platform:
    """The platform with two documents, each in a collection of its own."""
    await platform.store("limits.md", LIMITS, collection="rules")
    await platform.store("leave.md", LEAVE, collection="people")
    return platform


async def search(platform: Platform, query: str, **parameters: object) -> Any:
    """Return the answer to GET /search."""
    reply = await platform.call("retrieval", "GET", f"/search?{urlencode({'q': query} | parameters, doseq=True)}")
    assert reply.status == 200, reply
    return reply.json()


def documents(found: Any) -> list[str]:
    """Return the names of the documents found."""
    return [result["document"] for result in found["results"]]


async def test_a_result_says_where_it_stands_and_who_found_it(stored: Platform) -> None:
    found = await search(stored, "What may a hotel cost?", limit=1)
    assert (found["mode"], found["reason"], found["rerank"], found["plan"]) == ("hybrid", None, None, None)
    [result] = found["results"]
    assert (result["n"], result["document"], result["collection"], result["media_type"]) == (
        1, "limits.md", "rules", "text/markdown",
    )  # fmt: skip
    assert "120 euros" in result["content"]
    assert (result["end_char"] > result["start_char"], result["page"]) == (True, None)
    scores = result["scores"]
    assert (scores["vector"]["rank"], scores["text"]["rank"], scores["trigram"], scores["rerank"]) == (1, 1, None, None)
    assert 0 < scores["text"]["score"] < 1
    assert 0 < scores["vector"]["score"] <= 1


async def test_a_body_asks_for_the_same(stored: Platform) -> None:
    asked = {"q": "vacation", "collections": ["people"], "limit": 5, "filter": {"media_types": ["text/markdown"]}}
    reply = await stored.call("retrieval", "POST", "/search", asked)
    same = await search(
        stored, "vacation", collection="people", limit=5, filter=json.dumps({"media_types": ["text/markdown"]})
    )
    assert (reply.status, reply.json()) == (200, same)
    assert documents(same) == ["leave.md"]


async def test_collections_and_filters_limit_the_search(stored: Platform) -> None:
    assert sorted(documents(await search(stored, "hotel vacation"))) == ["leave.md", "limits.md"]
    assert documents(await search(stored, "hotel vacation", collection="rules")) == ["limits.md"]
    both = await search(stored, "hotel vacation", collection=["rules", "people"])
    assert sorted(documents(both)) == ["leave.md", "limits.md"]
    for nothing in (
        {"media_types": ["text/html"]},
        {"metadata": {"team": "blue"}},
        {"dated_from": "2026-01-01T00:00:00Z"},
    ):
        assert documents(await search(stored, "hotel vacation", filter=json.dumps(nothing))) == []


@pytest.mark.parametrize(
    ("parameters", "status_code", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"q": " "}, 422, "invalid_request"),
        ({"q": "x\0"}, 422, "invalid_request"),
        ({"q": "x" * 10_001}, 422, "invalid_request"),
        ({"q": "x", "limit": 0}, 422, "invalid_request"),
        ({"q": "x", "limit": 51}, 422, "invalid_request"),
        ({"q": "x", "collection": "no such name"}, 422, "invalid_request"),
        ({"q": "x", "collection": "nowhere"}, 404, "not_found"),
        ({"q": "x", "filter": "{"}, 422, "invalid_request"),
        ({"q": "x", "filter": '{"colour": "red"}'}, 422, "invalid_request"),
        ({"q": "x", "filter": '{"dated_from": "2026-01-01T00:00:00"}'}, 422, "invalid_request"),
        ({"q": "x", "filter": '{"metadata": {"a": {"b": 1}}}'}, 422, "invalid_request"),
        ({"q": "x", "explain": "perhaps"}, 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    platform: Platform, parameters: dict[str, object], status_code: int, code: str
) -> None:
    reply = await platform.call("retrieval", "GET", f"/search?{urlencode(parameters)}")
    assert (reply.status, reply.code()) == (status_code, code)


async def test_the_plan_is_told_on_request(stored: Platform) -> None:
    plan = (await search(stored, "hotel Wosniak", explain="true"))["plan"]
    assert set(plan["legs"]) == {"vector", "text", "trigram"}
    assert [c["lexeme"] for c in plan["legs"]["trigram"]["corrections"]] == ["wozniak"]
    assert any("Index" in line for line in plan["legs"]["vector"]["plan"])


@pytest.mark.parametrize("answer", [status(500), status(429), hang_up], ids=["500", "429", "hang up"])
async def test_without_an_embedding_the_words_are_searched_and_the_answer_says_so(
    stored: Platform, upstream: Upstream, answer: Answer
) -> None:
    upstream.embeddings = answer
    found = await search(stored, "hotel")
    assert (found["mode"], found["reason"], documents(found)) == ("text", "embedding_unavailable", ["limits.md"])
    explained = await search(stored, "hotel", explain="true")
    assert set(explained["plan"]["legs"]) == {"text", "trigram"}


def admin(platform: Platform) -> dict[str, str]:
    """Return the Authorization header of the first tenant's administrator."""
    return bearer(platform.tenants[0], "root", roles=("tenant_admin",))


async def test_the_settings_of_a_tenant_are_its_own(stored: Platform) -> None:
    before = (await stored.call("retrieval", "GET", "/search/settings")).json()
    change = {"text_weight": 0.5, "depth": 20}
    changed = await stored.call("retrieval", "PUT", "/search/settings", change, headers=admin(stored))
    assert changed.status == 200
    assert changed.json() | {"updated_at": 0} == before | {"text_weight": 0.5, "depth": 20, "updated_at": 0}
    assert (await stored.call("retrieval", "GET", "/search/settings")).json() == changed.json()
    other = await stored.call("retrieval", "GET", "/search/settings", headers=stored.bearer("bob", stored.tenants[1]))
    assert other.json() == before
    back = await stored.call("retrieval", "PUT", "/search/settings", dict.fromkeys(change), headers=admin(stored))
    assert back.json() | {"updated_at": 0} == before | {"updated_at": 0}


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"depth": 1.5}, {"colour": 1}, {"depth": "x"}, {"tenant_id": None}])
async def test_settings_that_cannot_be_are_refused(platform: Platform, wrong: dict[str, object]) -> None:
    reply = await platform.call("retrieval", "PUT", "/search/settings", wrong, headers=admin(platform))
    assert (reply.status, reply.code()) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("wrong", "detail"),
    [
        ({"depth": 0}, "depth: must be from 10 to 500."),
        ({"text_weight": 11}, "text_weight: must be from 0 to 10."),
        ({"spelling_similarity": 0}, "spelling_similarity: must be from 0.1 to 1."),
        ({"depth": 10**30}, "A setting is a number within its range."),
    ],
)
async def test_a_setting_out_of_its_range_is_told_the_range(
    platform: Platform, wrong: dict[str, object], detail: str
) -> None:
    reply = await platform.call("retrieval", "PUT", "/search/settings", wrong, headers=admin(platform))
    assert reply.json()["detail"] == detail


def scored(*scores: float | str | None, keep: Sequence[int] | None = None) -> Answer:
    """Answer as a reranking model does: the texts in order of their scores, worst first."""

    async def answer(reply: Reply, request: dict[str, Any]) -> None:
        given = [scores[index % len(scores)] for index in range(len(request["documents"]))]
        results = [{"index": index, "relevance_score": score} for index, score in enumerate(given)]
        kept = [result for result in results if keep is None or result["index"] in keep]
        await reply.whole(200, json.dumps({"results": kept[::-1]}).encode())

    return answer


@pytest.fixture
def reranking(stored: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """The model server with a reranking model; every text has the same vector."""
    assert stored
    monkeypatch.setenv("RERANK_MODEL", "local/reranker")
    get_settings.cache_clear()
    upstream.embeddings = vectors(*[0.1] * WIDTH)
    return upstream


async def test_a_reranking_model_has_the_last_word(platform: Platform, reranking: Upstream) -> None:
    reranking.rerank = scored(0.1, 0.9)
    found = await search(platform, "hotel", limit=2)
    assert found["rerank"] == "done"
    assert [result["scores"]["rerank"] for result in found["results"]] == [0.9, 0.1]
    sent = reranking.requests[-1]
    assert (sent["model"], sent["query"], sent["top_n"]) == ("local/reranker", "hotel", 2)
    # What is embedded is what is read: the title or name, the heading, the text.
    assert [text.split("\n")[0] for text in sent["documents"]] == ["Limits Limits", "Leave Leave"]
    assert documents(found) == ["leave.md", "limits.md"]
    assert documents(await search(platform, "hotel", limit=1)) == ["leave.md"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (status(500), "rerank_unavailable"),
        (status(429), "rerank_unavailable"),
        (hang_up, "rerank_unavailable"),
        (silence, "rerank_unavailable"),
        (status(404), "rerank_rejected"),
        (status(200, b"<html>"), "rerank_rejected"),
        (status(200, b'{"results": [{"index": 0}]}'), "rerank_rejected"),
        (scored("high"), "rerank_rejected"),
        (scored(float("nan")), "rerank_rejected"),
        (scored(0.5, keep=[0]), "rerank_rejected"),
    ],
)
async def test_a_reranking_model_that_fails_leaves_the_order_of_the_search(
    platform: Platform, reranking: Upstream, monkeypatch: pytest.MonkeyPatch, answer: Answer, code: str
) -> None:
    monkeypatch.setattr("shared.reranking.TIMEOUT_SECONDS", 0.2)
    reranking.rerank = answer
    found = await search(platform, "hotel", limit=2)
    assert (found["rerank"], documents(found)) == (code, ["limits.md", "leave.md"])
    assert found["results"][0]["scores"]["rerank"] is None


async def test_a_turn_gets_its_passages_in_the_order_of_the_reranking_model(
    platform: Platform, reranking: Upstream
) -> None:
    reranking.rerank = scored(0.1, 0.9)
    reply = await platform.call("chat", "POST", "/chat", {"message": "hotel", "stream": False})
    accepted = reply.json()
    assert accepted["retrieval"] == {"mode": "hybrid", "rerank": "done"}
    assert [passage["document"] for passage in accepted["passages"]] == ["leave.md", "limits.md"]
    trace = (await platform.call("chat", "GET", f"/turns/{accepted['turn_id']}/trace")).json()
    assert [p["rerank_score"] for p in trace["decisions"]["retrieval"]["passages"]] == [0.9, 0.1]
    reranking.rerank = status(500)
    reply = await platform.call("chat", "POST", "/chat", {"message": "hotel", "stream": False})
    assert reply.json()["retrieval"] == {"mode": "hybrid", "rerank": "rerank_unavailable"}
    assert [passage["document"] for passage in reply.json()["passages"]] == ["limits.md", "leave.md"]


async def test_a_completion_gets_its_passages_in_the_order_of_the_reranking_model(
    platform: Platform, reranking: Upstream
) -> None:
    reranking.rerank = scored(0.1, 0.9)
    asked = {"model": "light", "messages": [{"role": "user", "content": "hotel"}], "max_tokens": 20, "retrieval": True}
    reply = await platform.call("openai_api", "POST", "/v1/chat/completions", asked)
    assert reply.status == 200
    with platform.database.connect() as operator:
        passages = operator.query("SELECT document_name, rerank_score FROM chat.passages ORDER BY ordinal")
    assert passages == [("leave.md", 0.9), ("limits.md", 0.1)]


async def test_a_citation_points_to_a_place_in_its_document(stored: Platform) -> None:
    turn = await stored.begin("What may a hotel cost?")
    await stored.deliver()
    told = (await stored.call("chat", "GET", f"/turns/{turn}")).json()
    citation = next(c for c in told["citations"] if c["document"] == "limits.md")
    with stored.database.connect() as operator:
        body = operator.value("SELECT body FROM rag.contents WHERE document_id = %s", [citation["document_id"]])
    assert "120 euros" in body[citation["start_char"] : citation["end_char"]]
    assert citation["page"] is None
