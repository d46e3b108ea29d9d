"""Chunks that wait for their vectors, by the events that ask for them, before endpoints of every kind."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from functions.embedding import batch, queue
from shared.settings import get_settings
from tests.functions.platform import Platform, until
from tests.functions.upstream import Answer, Reply, Upstream, status, vectors
from tests.support import WIDTH

PARTS = "\n\n".join(f"## Part {number}\n\n{f'Words of part {number}. ' * 20}" for number in range(40))
"""A document of 40 chunks."""


def variables(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()


async def waiting(platform: Platform, name: str, text: str) -> tuple[str, dict[str, Any]]:
    """Upload a document, have it chunked, and return its id and the event that asks for its vectors."""
    document = (await platform.upload(name, text.encode())).json()["id"]
    [received] = platform.claim()
    assert (await platform.post(received)).status == 200
    [requested] = platform.claim()
    return document, requested


async def read(platform: Platform, document: str) -> dict[str, Any]:
    shown: dict[str, Any] = (await platform.call("ingestion", "GET", f"/documents/{document}")).json()
    return shown


def sent(upstream: Upstream) -> list[list[str]]:
    """Return the texts of each request to the endpoint."""
    return [request["input"] for request in upstream.requests]


def due(platform: Platform) -> None:
    """Let every lease and every back-off be over."""
    with platform.database.connect() as operator:
        operator.run("UPDATE rag.embedding_queue SET due_at = now() WHERE status = 'waiting'")


def refuses(word: str, answer: Answer, otherwise: Answer) -> Answer:
    """Answer so to a request with a text in which the word is."""

    async def refusing(reply: Reply, request: dict[str, Any]) -> None:
        await (answer if any(word in text for text in request["input"]) else otherwise)(reply, request)

    return refusing


async def test_a_document_that_changes_in_one_place_asks_for_one_vector(platform: Platform, upstream: Upstream) -> None:
    await platform.store("guide.md", PARTS)
    upstream.requests.clear()
    changed = await platform.store("guide.md", PARTS.replace("Words of part 7.", "Other words of part 7."))
    assert (changed["status"], changed["version"], changed["chunks_embedded"]) == ("indexed", 2, 40)
    [[text]] = sent(upstream)
    assert text.startswith("guide.md Part 7\n")


async def test_progress_is_told_while_batches_are_embedded(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables(monkeypatch, BACKGROUND_WORKER_CONCURRENCY="1")
    healthy = upstream.embeddings
    second, gate = asyncio.Event(), asyncio.Event()

    async def answer(reply: Reply, request: dict[str, Any]) -> None:
        if len(upstream.requests) == 2:
            second.set()
            await gate.wait()
        await healthy(reply, request)

    upstream.embeddings = answer
    document, event = await waiting(platform, "guide.md", PARTS)
    chunked = await read(platform, document)
    assert (chunked["status"], chunked["stage"], chunked["chunks_total"]) == ("processing", "embedding", 40)
    posted = asyncio.create_task(platform.post(event))
    await second.wait()
    assert (await read(platform, document))["chunks_embedded"] == 32
    gate.set()
    assert (await posted).status == 200
    assert (await read(platform, document))["status"] == "indexed"


@pytest.mark.parametrize("answer", [status(400), vectors(count=0)], ids=["refused", "too few"])
async def test_a_chunk_that_the_endpoint_refuses_is_set_aside_alone(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setattr(queue, "BATCH_CHUNKS", 64)
    healthy = upstream.embeddings
    upstream.embeddings = refuses("Words of part 7.", answer, healthy)
    document = await platform.store("guide.md", PARTS)
    assert (document["status"], document["chunks_embedded"], document["chunks_failed"]) == ("indexed", 39, 1)
    assert document["error_code"] == "embedding_rejected"
    assert document["error_detail"].startswith("Passage 8: ")
    assert len(sent(upstream)) <= 1 + 2 * 6, "it was searched for by halving"
    with platform.database.connect("app", platform.tenants[0]) as app:
        assert app.rows("rag.search", p_query="part 7", p_embedding=None, p_limit=20)
        upstream.embeddings = healthy
        upstream.requests.clear()
        app.call("rag.retry_document", p_document_id=document["id"])
    assert [reply.status for reply in await platform.deliver()] == [200]
    assert [len(texts) for texts in sent(upstream)] == [1]
    again = await read(platform, document["id"])
    assert (again["chunks_embedded"], again["chunks_failed"], again["error_code"]) == (40, 0, None)


ODD = {
    "another width": ([1.0, 2.0], "embedding_width_mismatch"),
    "not finite": ([float("nan")] * WIDTH, "embedding_rejected"),
    "too large for half precision": ([1e6] * WIDTH, "embedding_rejected"),
}


@pytest.mark.parametrize(("odd", "code"), ODD.values(), ids=ODD.keys())
async def test_one_vector_that_cannot_be_used_costs_no_other(
    platform: Platform, upstream: Upstream, odd: list[float], code: str
) -> None:
    good = [1.0, *[0.0] * (WIDTH - 1)]

    async def answer(reply: Reply, request: dict[str, Any]) -> None:
        found = [odd if "part 7." in text else good for text in request["input"]]
        data = [{"index": index, "embedding": embedding} for index, embedding in enumerate(found)]
        await reply.whole(200, json.dumps({"data": data}).encode())

    upstream.embeddings = answer
    document = await platform.store("guide.md", PARTS)
    assert (document["status"], document["chunks_failed"], document["error_code"]) == ("indexed", 1, code)
    assert sum(map(len, sent(upstream))) == 40, "nothing was asked for twice"


@pytest.mark.parametrize("code", sorted(batch.WHOEVER_ASKS))
async def test_an_endpoint_that_refuses_whoever_asks_is_not_asked_chunk_by_chunk(
    platform: Platform, upstream: Upstream, code: int
) -> None:
    upstream.embeddings = status(code)
    failed = await platform.store("guide.md", PARTS)
    assert (failed["status"], failed["error_code"]) == ("failed", "embedding_rejected")
    assert str(int(code)) in failed["error_detail"]
    assert len(sent(upstream)) == 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.embeddings.RETRY_DELAYS_SECONDS", ())


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("code", [429, 500, 503])
async def test_a_document_is_indexed_once_the_endpoint_is_back(
    platform: Platform, upstream: Upstream, code: int
) -> None:
    healthy, upstream.embeddings = upstream.embeddings, status(code)
    document, event = await waiting(platform, "guide.md", PARTS)
    refused = await platform.post(event)
    assert (refused.status, refused.code()) == (503, "embedding_unavailable")
    assert (await read(platform, document))["status"] == "processing"
    upstream.embeddings = healthy
    resting = await platform.post(event)
    assert resting.status == 409, "what was refused rests for a moment"
    due(platform)
    assert (await platform.post(event)).status == 200
    assert (await read(platform, document))["status"] == "indexed"


@pytest.mark.usefixtures("impatient")
async def test_when_the_endpoint_stays_away_the_document_fails_and_can_be_tried_again(
    platform: Platform, upstream: Upstream
) -> None:
    healthy, upstream.embeddings = upstream.embeddings, status(503)
    document, event = await waiting(platform, "guide.md", "Text.")
    for _ in range(11):
        assert (await platform.post(event)).status == 503
        due(platform)
    assert (await platform.post(event)).status == 200
    failed = await read(platform, document)
    assert (failed["status"], failed["error_code"]) == ("failed", "embedding_unavailable")
    upstream.embeddings = healthy
    with platform.database.connect("app", platform.tenants[0]) as app:
        app.call("rag.retry_document", p_document_id=document)
    assert [reply.status for reply in await platform.deliver()] == [200]
    assert (await read(platform, document))["status"] == "indexed"


async def test_a_chunk_at_which_every_worker_died_is_not_sent_to_the_endpoint_again(
    platform: Platform, upstream: Upstream
) -> None:
    document, event = await waiting(platform, "guide.md", PARTS)
    with platform.database.connect() as operator:
        operator.run(
            "UPDATE rag.embedding_queue SET attempts = 12 WHERE chunk_id = (SELECT id FROM rag.chunks WHERE ordinal = 3)"
        )
    assert (await platform.post(event)).status == 200
    indexed = await read(platform, document)
    assert (indexed["status"], indexed["chunks_failed"]) == ("indexed", 1)
    assert indexed["error_code"] == "attempts_exhausted"
    assert sum(map(len, sent(upstream))) == 39


async def test_what_a_dead_worker_had_in_hand_is_embedded_by_the_next_when_its_lease_is_over(
    platform: Platform, upstream: Upstream
) -> None:
    assert upstream
    document, event = await waiting(platform, "guide.md", PARTS)
    dead = {"p_worker": "dead", "p_lease": "1 minute", "p_limit": 10, "p_tokens": 10_000}
    named = {"p_document_id": document, "p_version": 1, "p_event_source": "s", "p_event_id": "i"}
    with platform.database.connect("app", platform.tenants[0]) as app:
        assert len(app.call("rag.claim_embeddings", **dead, **named)["chunks"]) == 10
    busy = await platform.post(event)
    assert (busy.status, busy.code()) == (409, "in_progress")
    assert (await read(platform, document))["chunks_embedded"] == 30
    due(platform)
    assert (await platform.post(event)).status == 200
    assert (await read(platform, document))["status"] == "indexed"


async def test_a_lease_is_kept_while_the_endpoint_takes_its_time(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LEASE", timedelta(seconds=2))
    healthy = upstream.embeddings

    async def slow(reply: Reply, request: dict[str, Any]) -> None:
        with platform.database.connect() as operator:
            for _ in range(2):
                operator.run("UPDATE rag.embedding_queue SET due_at = now()")
                await until(lambda: operator.value("SELECT bool_and(due_at > now()) FROM rag.embedding_queue"))
        await healthy(reply, request)

    upstream.embeddings = slow
    document, event = await waiting(platform, "guide.md", "Text.")
    assert (await platform.post(event)).status == 200
    assert (await read(platform, document))["status"] == "indexed"


async def test_a_document_that_is_replaced_while_it_is_embedded_is_left_to_the_newer_version(
    platform: Platform, upstream: Upstream
) -> None:
    healthy = upstream.embeddings
    working, gate = asyncio.Event(), asyncio.Event()

    async def held(reply: Reply, request: dict[str, Any]) -> None:
        working.set()
        await gate.wait()
        await healthy(reply, request)

    upstream.embeddings = held
    document, event = await waiting(platform, "guide.md", "Old.")
    losing = asyncio.create_task(platform.post(event))
    await working.wait()
    await platform.upload("guide.md", b"New.")
    gate.set()
    assert (await losing).status == 200
    assert (await read(platform, document))["status"] == "received"
    await platform.deliver()
    indexed = await read(platform, document)
    assert (indexed["status"], indexed["version"]) == ("indexed", 2)
    with platform.database.connect() as operator:
        assert operator.query("SELECT content, live FROM rag.chunks") == [("New.", True)]


async def test_a_chunk_that_a_database_administrator_changes_gets_its_vector_by_an_event(
    platform: Platform, upstream: Upstream
) -> None:
    await platform.store("guide.md", PARTS)
    upstream.requests.clear()
    upstream.embeddings = vectors(0.0, 1.0, *[0.0] * (WIDTH - 2))
    with platform.database.connect() as operator:
        operator.run("UPDATE rag.chunks SET content = 'Corrected.' WHERE ordinal = 8")
        assert [reply.status for reply in await platform.deliver()] == [200]
        assert sent(upstream) == [["guide.md Part 7\nCorrected."]]
        joined = "rag.chunks AS c JOIN rag.embeddings AS e ON e.chunk_id = c.id"
        turned = f"SELECT c.ordinal FROM {joined} WHERE e.embedding::text LIKE '[0,1,%%'"
        assert operator.query(turned) == [(8,)]


async def test_an_event_whose_time_is_over_leaves_the_rest_to_another_one(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LONGEST_SECONDS", 0.0)
    document, event = await waiting(platform, "guide.md", PARTS)
    assert (await platform.post(event)).status == 200
    assert sent(upstream) == []
    [another] = platform.claim()
    assert (another["type"], another["data"]) == (event["type"], event["data"])
    assert another["id"] != event["id"]
    monkeypatch.setattr(queue, "LONGEST_SECONDS", 60.0)
    assert (await platform.post(another)).status == 200
    assert (await read(platform, document))["status"] == "indexed"
    assert (await platform.post(event)).status == 200


async def test_a_document_whose_events_were_lost_is_found_by_the_sweeper(
    platform: Platform, upstream: Upstream
) -> None:
    assert upstream
    document, _ = await waiting(platform, "guide.md", PARTS)
    with platform.database.connect() as operator:
        operator.run("DELETE FROM events.outbox")
        operator.run("UPDATE rag.embedding_queue SET turn_at = turn_at - interval '2 minutes'")
    assert (await platform.tick()).status == 200
    assert [reply.status for reply in await platform.deliver()] == [200]
    assert (await read(platform, document))["status"] == "indexed"


async def test_a_process_has_as_many_requests_under_way_as_it_may(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables(monkeypatch, BACKGROUND_WORKER_CONCURRENCY="3")
    monkeypatch.setattr(queue, "BATCH_CHUNKS", 4)
    healthy = upstream.embeddings
    under_way, most, full = 0, 0, asyncio.Event()

    async def counted(reply: Reply, request: dict[str, Any]) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            full.set()
        await full.wait()
        # Were there a fourth, it would come now.
        await asyncio.sleep(0.01)
        under_way -= 1
        await healthy(reply, request)

    upstream.embeddings = counted
    for name in ("a.md", "b.md", "c.md"):
        await platform.upload(name, PARTS.replace("Words", name).encode())
    assert {reply.status for reply in await platform.deliver()} == {200}
    assert most == 3


async def test_the_width_is_sent_for_a_model_that_shortens_its_vectors_and_for_no_other(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def embed_all(name: str) -> set[int | None]:
        upstream.requests.clear()
        await platform.store(name, f"Text of {name}.")
        await platform.begin()
        completion = await platform.call("openai_api", "POST", "/v1/embeddings", {"input": "text"})
        assert completion.status == 200, completion
        asked = [request for request in upstream.requests if "input" in request]
        assert len(asked) == 3
        return {request.get("dimensions") for request in asked}

    assert await embed_all("plain.md") == {None}
    with platform.database.connect() as operator:
        operator.run("UPDATE rag.embedding_models SET send_dimensions = true")
        try:
            monkeypatch.setattr("shared.embeddings._known", None)
            assert await embed_all("shortened.md") == {WIDTH}
        finally:
            operator.run("UPDATE rag.embedding_models SET send_dimensions = false")
            monkeypatch.setattr("shared.embeddings._known", None)


async def test_a_question_is_embedded_by_the_model_that_is_the_active_one_when_it_is_asked(
    platform: Platform, upstream: Upstream
) -> None:
    await platform.store("guide.md", "Text.")
    await platform.begin()
    with platform.database.connect() as operator:
        operator.run("UPDATE rag.embedding_models SET status = 'retired'")
        operator.run("INSERT INTO rag.embedding_models (name, width, status) VALUES ('newer', %s, 'active')", [WIDTH])
        try:
            upstream.requests.clear()
            await platform.begin()
            assert [request["model"] for request in upstream.requests] == ["newer"]
            upstream.requests.clear()
            asked = {"model": "auto", "messages": [{"role": "user", "content": "Limit?"}], "retrieval": True}
            completion = await platform.call("openai_api", "POST", "/v1/chat/completions", asked)
            assert completion.status == 200, completion
            assert [request["model"] for request in upstream.requests if "input" in request] == ["newer"]
        finally:
            operator.run("DELETE FROM rag.embedding_models WHERE name = 'newer'")
            operator.run("UPDATE rag.embedding_models SET status = 'active'")
