"""A turn over HTTP: question, stream, answer."""

import asyncio
import itertools
import json
from datetime import UTC, datetime

import pytest

from shared.settings import get_settings
from tests.functions.asgi import events, exchange
from tests.functions.platform import Mode, Platform, binary, said, structured
from tests.functions.upstream import Answer, Reply, Upstream, hang_up, silence, status, stream, text, vectors
from tests.support import WIDTH

LIMITS = "# Limits\n\nThe rate limit is sixty requests a minute for each user.\n\n# Leave\n\nEveryone has thirty days."
QUESTION = "What is the rate limit?"


@pytest.mark.parametrize("mode", [binary, structured])
async def test_a_question_is_answered_from_the_documents_in_one_stream(platform: Platform, mode: Mode) -> None:
    document = await platform.store("limits.md", LIMITS, mode=mode)
    reply = await platform.ask(QUESTION, mode=mode)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    stream = events(reply.body)
    names = [event.name for event in stream]
    deltas = names.count("turn.delta")
    assert deltas >= 1
    assert names == ["turn.accepted", "turn.started", *["turn.delta"] * deltas, "turn.citations", "turn.completed"]
    accepted, completed = stream[0], stream[-1]
    assert accepted.id is None
    assert all(event.id for event in stream[1:])
    assert accepted.data["retrieval"] == {"mode": "hybrid"}
    assert accepted.data["passages"][0]["document"] == "limits.md"
    assert accepted.data["replayed"] is False
    [citation] = [c for c in stream[-2].data["citations"] if "sixty" in c["quote"]]
    assert (citation["document"], citation["heading"]) == ("limits.md", "Limits")
    assert citation["document_id"] == document["id"]
    assert "sixty requests a minute" in said(stream)
    assert f"[{citation['n']}]" in said(stream)
    usage = completed.data["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert completed.data["charged_tokens"] == usage["total_tokens"]
    [embedded] = platform.embedded()
    assert completed.data["budget"]["day"]["settled"] == usage["total_tokens"] + embedded
    assert completed.data["budget"]["day"]["reserved"] == 0
    turn = await platform.read(accepted.data["turn_id"])
    assert turn["status"] == "completed"
    assert turn["answer"] == said(stream)
    assert turn["citations"] == stream[-2].data["citations"]
    assert turn["usage"] == usage


async def test_the_answer_says_who_it_is_for_and_how_long_each_step_took(platform: Platform) -> None:
    reply = await platform.ask(QUESTION)
    turn = events(reply.body)[0].data["turn_id"]
    assert reply.headers["x-turn-id"] == turn
    assert reply.headers["location"] == f"/turns/{turn}"
    assert reply.headers["cache-control"] == "no-store"
    steps = dict(step.split(";dur=") for step in reply.headers["server-timing"].split(", "))
    assert list(steps) == ["auth", "rate_limit", "embedding", "begin_turn"]
    assert all(float(milliseconds) >= 0 for milliseconds in steps.values())


async def test_the_same_idempotency_key_twice_is_one_turn_charged_once(platform: Platform) -> None:
    await platform.store("limits.md", LIMITS)
    headers = {"Idempotency-Key": "k1"}
    first, second = await asyncio.gather(
        platform.ask(QUESTION, headers=headers), platform.ask(QUESTION, headers=headers)
    )
    later = await platform.ask(QUESTION, headers=headers)
    streams = [events(reply.body) for reply in (first, second, later)]
    assert len({stream[0].data["turn_id"] for stream in streams}) == 1
    assert sorted(stream[0].data["replayed"] for stream in streams) == [False, True, True]
    assert len({said(stream) for stream in streams}) == 1
    assert said(streams[0])
    assert {stream[-1].name for stream in streams} == {"turn.completed"}
    counts, embedded = platform.counts(), platform.embedded()
    assert (counts["chat.turns"], counts["inference.jobs"]) == (1, 1)
    # Two at the same instant may both have embedded the question; who comes later does not.
    assert counts["budget.reservations"] == 1 + len(embedded) in (2, 3)
    usage = streams[0][-1].data["usage"]["total_tokens"]
    with platform.database.connect() as operator:
        assert operator.query("SELECT DISTINCT settled, reserved FROM budget.balances") == [(usage + sum(embedded), 0)]

    conflict = await platform.call("chat", "POST", "/chat", {"message": "Another question"}, headers=headers)
    assert (conflict.status, conflict.code()) == (409, "idempotency_conflict")
    assert conflict.json()["turn_id"] == streams[0][0].data["turn_id"]


async def test_without_a_stream_the_question_is_accepted_at_once(platform: Platform) -> None:
    reply = await platform.call("chat", "POST", "/chat", {"message": QUESTION, "stream": False})
    assert reply.status == 202
    assert reply.headers["content-type"] == "application/json"
    accepted = reply.json()
    assert reply.headers["location"] == f"/turns/{accepted['turn_id']}"
    assert (await platform.read(accepted["turn_id"]))["status"] == "queued"
    await platform.deliver()
    assert (await platform.read(accepted["turn_id"]))["status"] == "completed"


async def test_a_conversation_goes_on(platform: Platform, upstream: Upstream) -> None:
    upstream.chat = stream(*text("Sixty."))
    first = await platform.ask(QUESTION)
    conversation = events(first.body)[0].data["conversation_id"]
    second = await platform.ask("And for guests?", conversation_id=conversation)
    assert events(second.body)[0].data["conversation_id"] == conversation
    messages = [r["messages"] for r in upstream.requests if "messages" in r][-1]
    assert [m["content"] for m in messages[1:]] == [QUESTION, "Sixty.", "And for guests?"]


async def test_the_model_is_asked_as_the_settings_say(platform: Platform, upstream: Upstream) -> None:
    await platform.ask(QUESTION, model="heavy", max_tokens=77)
    embedding, completion = upstream.requests
    assert embedding["path"] == "/v1/embeddings"
    assert (embedding["model"], embedding["input"]) == ("local/all-minilm-l6-v2", [QUESTION])
    assert completion["path"] == "/v1/chat/completions"
    assert (completion["model"], completion["max_tokens"]) == ("local/extractive-heavy", 77)
    assert {request["headers"]["authorization"] for request in upstream.requests} == {"bearer sk-test"}


async def test_a_client_that_goes_away_does_not_cancel_the_turn(platform: Platform) -> None:
    body = b'{"message": "What is the rate limit?"}'
    async with exchange(platform.serve("chat"), "POST", "/chat", platform.bearer(), [body]) as asking:
        first = await anext(aiter(asking.chunks()))
        asking.disconnect()
    turn = events(first)[0].data["turn_id"]
    await platform.deliver()
    assert (await platform.read(turn))["status"] == "completed"


async def test_a_reader_who_waits_is_sent_heartbeats(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.follow.CHECK_SECONDS", 0.05)
    monkeypatch.setenv("STREAM_HEARTBEAT_SECONDS", "0.01")
    get_settings.cache_clear()
    turn = await platform.begin()
    async with exchange(platform.serve("chat"), "GET", f"/turns/{turn}/stream", platform.bearer()) as reading:
        chunks = aiter(reading.chunks())
        assert [await anext(chunks), await anext(chunks)] == [b": heartbeat\n\n"] * 2


async def test_a_queued_turn_is_stopped_at_once_and_its_reader_is_told(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.follow.CHECK_SECONDS", 0.05)
    turn = await platform.begin()
    reading = asyncio.create_task(platform.follow(turn))
    await asyncio.sleep(0)
    stopped = await platform.call("chat", "POST", f"/turns/{turn}/stop")
    assert (stopped.status, stopped.json()["status"], stopped.json()["charged_tokens"]) == (200, "stopped", 0)
    assert (await reading)[-1].name == "turn.stopped"
    assert [reply.status for reply in await platform.deliver()] == [200]
    assert (await platform.read(turn))["answer"] is None
    assert platform.held() == 0


async def test_a_running_turn_is_stopped_and_keeps_what_was_said(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_LEASE_SECONDS", "1")
    get_settings.cache_clear()
    said_so_far, gate = asyncio.Event(), asyncio.Event()

    async def answer(reply: Reply, _: object) -> None:
        await reply.begin_stream()
        await reply.tokens("Half of ", "it")
        said_so_far.set()
        await gate.wait()

    upstream.chat = answer
    turn = await platform.begin()
    delivering = asyncio.create_task(platform.deliver())
    await said_so_far.wait()
    assert (await platform.call("chat", "POST", f"/turns/{turn}/stop")).json()["status"] == "running"
    assert [reply.status for reply in await delivering] == [200]
    stream = await platform.follow(turn)
    assert (stream[-1].name, said(stream)) == ("turn.stopped", "Half of it")
    stopped = await platform.read(turn)
    assert (stopped["status"], stopped["answer"]) == ("stopped", "Half of it")
    assert stopped["charged_tokens"] == stopped["usage"]["total_tokens"] > 0
    assert platform.held() == 0


@pytest.mark.parametrize("period", ["day", "month"])
async def test_a_budget_that_is_used_up_refuses_and_leaves_nothing_but_the_embedding(
    platform: Platform, period: str
) -> None:
    with platform.database.connect() as operator:
        operator.run(
            "INSERT INTO budget.limits (tenant_id, scope, holder_id, period, tokens) VALUES (%s, 'tenant', %s, %s, 100)",
            [platform.tenants[0], platform.tenants[0], period],
        )
    before = platform.counts()
    reply = await platform.call("chat", "POST", "/chat", {"message": QUESTION})
    assert (reply.status, reply.code()) == (429, "budget_exceeded")
    problem = reply.json()
    assert (problem["scope"], problem["period"]) == ("tenant", period)
    [embedded] = platform.embedded()
    assert (problem["limit"], problem["requested"] > 1024) == (100, True)
    assert datetime.fromisoformat(problem["resets_at"]) > datetime.now(UTC)
    assert platform.held() == 0
    assert platform.counts() == before | {"budget.reservations": 1, "budget.ledger": 3}
    reply = await platform.call("chat", "POST", "/chat", {"message": QUESTION})
    assert (reply.code(), reply.json()["remaining"]) == ("budget_exceeded", 100 - 2 * embedded)


async def test_without_embeddings_the_search_is_by_text_and_says_so(
    platform: Platform, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await platform.store("limits.md", LIMITS)
    monkeypatch.setenv("LITELLM_BASE_URL", f"http://127.0.0.1:{closed_port}")
    get_settings.cache_clear()
    reply = await platform.call("chat", "POST", "/chat", {"message": QUESTION, "stream": False})
    assert reply.status == 202
    assert reply.json()["retrieval"] == {"mode": "text", "reason": "embedding_unavailable"}


@pytest.mark.parametrize("answer", [status(500), status(429), hang_up], ids=["500", "429", "hang up"])
async def test_embeddings_that_fail_degrade_the_search(platform: Platform, upstream: Upstream, answer: Answer) -> None:
    upstream.embeddings = answer
    reply = await platform.call("chat", "POST", "/chat", {"message": QUESTION, "stream": False})
    assert (reply.status, reply.json()["retrieval"]["mode"]) == (202, "text")


async def test_embeddings_that_are_slow_degrade_the_search(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.embeddings.QUESTION_TIMEOUT_SECONDS", 0.05)
    upstream.embeddings = silence
    reply = await platform.call("chat", "POST", "/chat", {"message": QUESTION, "stream": False})
    assert (reply.status, reply.json()["retrieval"]["mode"]) == (202, "text")


WRONG_EMBEDDINGS = {
    "width": (vectors(1.0, 2.0), "embedding_width_mismatch"),
    "count": (vectors(*[0.1] * WIDTH, count=2), "embedding_rejected"),
    "refused": (status(400, b'\xff {"error": "no\\u0000"} \x00'), "embedding_rejected"),
    "no JSON": (status(200, b"<html>"), "embedding_rejected"),
    "no list": (status(200, b'{"data": {"0": 1}}'), "embedding_rejected"),
    "no object": (status(200, b"[]"), "embedding_rejected"),
    "no numbers": (vectors(*["a"] * WIDTH), "embedding_rejected"),
    "not finite": (vectors(*[float("nan")] * WIDTH), "embedding_rejected"),
    "too large": (vectors(*[1e6] * WIDTH), "embedding_rejected"),
    "enormous": (vectors(*[10**400] * WIDTH), "embedding_rejected"),
    "deep": (status(200, b"[" * 100_000), "embedding_rejected"),
}


@pytest.mark.parametrize(("answer", "code"), WRONG_EMBEDDINGS.values(), ids=WRONG_EMBEDDINGS.keys())
async def test_embeddings_that_are_wrong_refuse_the_question_and_leave_nothing_but_what_they_cost(
    platform: Platform, upstream: Upstream, answer: Answer, code: str
) -> None:
    upstream.embeddings = answer
    before = platform.counts()
    reply = await platform.call("chat", "POST", "/chat", {"message": QUESTION})
    assert (reply.status, reply.code()) == (502, code)
    # What is answered is charged; what was refused is only reserved and released.
    refused = answer is WRONG_EMBEDDINGS["refused"][0]
    assert len(platform.embedded()) == (not refused)
    assert platform.counts() == before | {"budget.reservations": 1, "budget.ledger": 2 if refused else 3}
    assert platform.held() == 0


async def test_a_trace_context_travels_with_the_event_and_nonsense_does_not(platform: Platform) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for sent, carried in ((trace, trace), ("x" * 5000, None), (f"{trace}-more", None)):
        reply = await platform.call(
            "chat", "POST", "/chat", {"message": QUESTION, "stream": False}, headers={"traceparent": sent}
        )
        assert reply.status == 202
        [event] = platform.claim()
        assert event["extensions"].get("traceparent") == carried
        assert event["extensions"]["tier"] == "standard"
        assert event["extensions"]["region"] == "test"
        assert event["extensions"]["tenantid"] == str(platform.tenants[0])


ALPHABETS = {
    "Latin": "abcdefghijklmnopqrstuvwxyz",
    "Cyrillic": "\u0430\u0431\u0432\u0433\u0434",
    "emoji": "\U0001f600\U0001f4a9",
}


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS.keys())
async def test_the_longest_message_is_answered(platform: Platform, upstream: Upstream, alphabet: str) -> None:
    words = ("".join(letters) for letters in itertools.product(alphabet, repeat=17))
    message = " ".join(itertools.islice(words, 6000))[:100_000]
    await platform.store("limits.md", LIMITS)
    body = json.dumps({"message": message, "stream": False}, ensure_ascii=False).encode()
    accepted = await platform.call("chat", "POST", "/chat", body=body)
    assert accepted.status == 202
    await platform.deliver()
    assert (await platform.read(accepted.json()["turn_id"]))["answer"] == "Fine."
    assert upstream.requests[-1]["messages"][-1]["content"] == message
